"""Which components of blocks are one object of the whole map."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tilseg.regions.components import Components, Connectivity, first_index, union
from tilseg.window import Size, Window


class Objects(NamedTuple):
    """The objects of a map, numbered from 1 in raster order of their first pixels.

    number: (components + 1,) the object of every component that was added, 0 for 0.
    codes: (objects + 1,) int64, class code of every object, -1 for 0.
    """

    number: NDArray[np.int64]
    codes: NDArray[np.int64]


class _Side(NamedTuple):
    """Components along one side of a block, 0 for none, and their codes."""

    ids: NDArray[np.int64]
    codes: NDArray[np.int64]


class Joiner:
    """Takes the components of one map block by block, in raster order, and joins them across
    the seams. Memory holds one row of pixels of the map, and what each component needs.
    """

    def __init__(self, shape: Size, connectivity: Connectivity) -> None:
        self._shape = shape
        self._connectivity = connectivity
        self._count = 0
        self._firsts: list[NDArray[np.int64]] = []
        self._codes: list[NDArray[np.int64]] = []
        self._pairs = [np.zeros((2, 0), np.int64)]
        self._above = _no_side(shape.cols)
        self._top = _no_side(shape.cols)
        self._bottom = _no_side(shape.cols)
        self._left: _Side | None = None

    def add(self, window: Window, parts: Components) -> int:
        """Take a block; its components 0, 1, ... are numbered from the result plus 1 on."""
        base, stride = self._count, parts.stride
        self._count += len(parts)
        first = first_index(parts.member)
        place = (parts.rows[first] + window.row) * self._shape.cols + parts.cols[first] + window.col
        self._firsts.append(place)
        self._codes.append(parts.classes)
        down = np.arange(1, window.rows + 1) * stride
        across = np.arange(1, window.cols + 1)
        if window.col == 0:
            self._end_row()
            self._left = None
        left = self._side(parts, down + 1, base)
        if self._left is not None:
            self._join(self._left, left)
        self._left = self._side(parts, down + window.cols, base)
        cols = window.slices[1]
        for line, row in ((self._top, 1), (self._bottom, window.rows)):
            side = self._side(parts, across + row * stride, base)
            line.ids[cols], line.codes[cols] = side
        return base

    def finish(self) -> Objects:
        """Every block has been added."""
        self._end_row()
        if not self._count:
            return Objects(np.zeros(1, np.int64), np.full(1, -1, np.int64))
        one, other = np.concatenate(self._pairs, axis=1) - 1
        group = union(one, other, self._count)
        first = np.full(int(group.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(first, group, np.concatenate(self._firsts))
        order = np.argsort(first)
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(1, len(order) + 1)
        codes = np.concatenate(self._codes)[first_index(group)][order]
        return Objects(np.append(0, rank[group]), np.append(-1, codes))

    def _side(self, parts: Components, places: NDArray[np.int64], base: int) -> _Side:
        local = member_at(parts, places)
        codes = np.append(-1, parts.classes)[local]
        return _Side(np.where(local, local + base, 0), codes)

    def _end_row(self) -> None:
        """The row of blocks is complete: join it to the one above, over its whole width, so
        that corners between four blocks are seen too."""
        self._join(self._above, self._top)
        self._above = self._bottom
        self._top, self._bottom = _no_side(self._shape.cols), _no_side(self._shape.cols)

    def _join(self, one: _Side, other: _Side) -> None:
        length = len(one.ids)
        for step in (0,) if self._connectivity == 1 else (-1, 0, 1):
            here = slice(max(0, -step), length - max(0, step))
            there = slice(max(0, step), length - max(0, -step))
            same = (one.codes[here] == other.codes[there]) & (one.ids[here] > 0)
            pairs = np.stack([one.ids[here][same], other.ids[there][same]])
            # Neighbouring pixels mostly say the same.
            self._pairs.append(pairs[:, np.diff(pairs, axis=1, prepend=0).any(axis=0)])


def _no_side(length: int) -> _Side:
    return _Side(np.zeros(length, np.int64), np.full(length, -1, np.int64))


def member_at(parts: Components, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The component, plus 1, at places in the flattened block with its frame; 0 for none."""
    if not len(parts.start):
        return np.zeros(len(places), np.int64)
    run = np.searchsorted(parts.start, places, side="right") - 1
    inside = (run >= 0) & (places < parts.stop[run])
    return np.where(inside, parts.member[run] + 1, 0)
