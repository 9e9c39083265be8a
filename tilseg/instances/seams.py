"""Pixels that touch across the seams between blocks.

Blocks come in raster order. What waits for its neighbours is one row of pixels of the image and
one column of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tilseg.regions.components import Connectivity
from tilseg.window import Size, Window


class Sides(NamedTuple):
    """The outermost pixels of a block: (planes, cols) and (planes, rows) int64 each.

    Plane 0 is the number of the pixel's node, 0 for none, plane 1 its kind; only pixels of one
    kind can touch.
    """

    top: NDArray[np.int64]
    bottom: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]

    @classmethod
    def of(cls, *planes: NDArray[Any]) -> Sides:
        """The sides of a block whose `planes` are (rows, cols)."""
        ends = ((0, slice(None)), (-1, slice(None)), (slice(None), 0), (slice(None), -1))
        return cls(*(np.stack([plane[end] for plane in planes]).astype(np.int64) for end in ends))


class Touching(NamedTuple):
    """Pairs of pixels of one kind that touch across a seam: (planes, pairs) int64 each."""

    one: NDArray[np.int64]
    other: NDArray[np.int64]


class SeamWalk:
    """Looks along every seam of an image of `shape` as soon as both of its sides are there."""

    def __init__(self, shape: Size, connectivity: Connectivity) -> None:
        self._shape = shape
        self._steps = (0,) if connectivity == 1 else (-1, 0, 1)
        self._count = 0
        self._left: NDArray[np.int64] | None = None
        self._above: NDArray[np.int64] | None = None
        self._row: list[Sides] = []

    def add(self, window: Window, sides: Sides, nodes: int) -> Iterator[Touching]:
        """Take the next block in raster order, which has `nodes` nodes.

        They are numbered on from those of the blocks before, in what this yields: the pairs along
        the seams that are complete now. It must be read to its end.
        """
        sides = Sides(*(_numbered(side, self._count) for side in sides))
        self._count += nodes
        if self._left is not None:
            yield self._touching(self._left, sides.left)
        self._row.append(sides)
        self._left = sides.right
        if window.col_stop < self._shape.cols:
            return
        # Over the whole width at once, so that corners between four blocks are seen too.
        if self._above is not None:
            top = np.concatenate([each.top for each in self._row], axis=1)
            yield self._touching(self._above, top)
        self._above = np.concatenate([each.bottom for each in self._row], axis=1)
        self._left = None
        self._row.clear()

    @property
    def waiting(self) -> NDArray[np.int64]:
        """Nodes along the bottom of the last row of blocks, which may still touch others, as
        `Touching` numbers them, 0 for none. They may be replaced by what they have become."""
        return np.zeros(0, np.int64) if self._above is None else self._above[0]

    def _touching(self, one: NDArray[np.int64], other: NDArray[np.int64]) -> Touching:
        length, pairs = one.shape[1], []
        for step in self._steps:
            here = one[:, max(0, -step) : length - max(0, step)]
            there = other[:, max(0, step) : length - max(0, -step)]
            same = (here[0] > 0) & (there[0] > 0) & (here[1] == there[1])
            pairs.append((here[:, same], there[:, same]))
        return Touching(*(np.concatenate(side, axis=1) for side in zip(*pairs, strict=True)))


def _numbered(side: NDArray[np.int64], base: int) -> NDArray[np.int64]:
    side = side.copy()
    side[0] += np.where(side[0] > 0, base, 0)
    return side
