"""The mask as instances see it, and instances as everything after them sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.regions.grid import BlockGrid
from tilseg.window import Size, Window

NODATA = -1


class Store(Protocol):
    """Where the pieces of blocks wait between the passes: a `BlockArray`, or memory."""

    def commit(self, window: Window, pixels: NDArray[Any]) -> int: ...
    def read(self, window: Window) -> NDArray[Any]: ...


class InMemory:
    """A `Store` of uint32 for a mask that is small."""

    def __init__(self, shape: Size) -> None:
        self._pixels = np.zeros(shape, np.uint32)

    def commit(self, window: Window, pixels: NDArray[Any]) -> int:
        self._pixels[window.slices] = pixels
        return 0

    def read(self, window: Window) -> NDArray[Any]:
        return self._pixels[window.slices].copy()


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask of class values, read by windows inside `grid.shape`, and what forms no object.

    read: (rows, cols) integers of at most 16 bits. grid: the blocks in which instances are looked
    for. nodata, background: as in `regions.Rules`.
    """

    read: Callable[[Window], NDArray[Any]]
    grid: BlockGrid
    nodata: int | None
    background: int | None

    def kinds(self, window: Window, halo: int = 0) -> NDArray[np.int32]:
        """Class plus 1 of a window and `halo` pixels round it: (rows, cols) int32.

        0 where no object is and outside the mask, -1 for nodata. Raises InputError
        E-MASK-NEGATIVE.
        """
        size = (window.rows + 2 * halo, window.cols + 2 * halo)
        wide = Window(window.row - halo, window.col - halo, *size)
        inside = wide.intersection(Window.whole(self.grid.shape))
        labels = self.read(inside)
        if labels.dtype.kind == "i" and labels.min() < 0:
            raise InputError("E-MASK-NEGATIVE", value=labels.min())
        kinds = labels.astype(np.int32) + 1
        if self.background is not None:
            kinds[labels == self.background] = 0
        if self.nodata is not None:
            kinds[labels == self.nodata] = NODATA
        framed = np.zeros(size, np.int32)
        framed[inside.relative_to(wide).slices] = kinds
        return framed


@dataclass(frozen=True, slots=True)
class InstanceMap:
    """The instance of every pixel of an image, read by windows.

    pieces: of each block of `grid`, numbered from 1 in it, 0 for none. numbers: by block, the
    instance of each of its pieces, (pieces + 1,) uint32, 0 for 0. classes: (instances + 1,)
    int64, class value of each instance, -1 for 0. nodata: pixels of the mask without a class.
    Instances are numbered by their first pixels in raster order.
    """

    grid: BlockGrid
    pieces: Store
    numbers: list[NDArray[np.uint32]] = field(repr=False)
    classes: NDArray[np.int64] = field(repr=False)
    nodata: int

    def read(self, window: Window) -> NDArray[np.uint32]:
        """The instance of each pixel of any window inside the image: (rows, cols), 0 for none."""
        found: NDArray[np.uint32] = self.pieces.read(window)
        block, cols = self.grid.block, self.grid.counts.cols
        for row in range(window.row // block.rows, -(-window.row_stop // block.rows)):
            for col in range(window.col // block.cols, -(-window.col_stop // block.cols)):
                index = row * cols + col
                part = self.grid.window(index).intersection(window).relative_to(window).slices
                found[part] = self.numbers[index][found[part]]
        return found


@dataclass(slots=True)
class Pieces:
    """What is known of the pieces of some blocks, one entry a block in raster order.

    first: place of the first pixel of each piece. classes: of each. nodata: pixels.
    """

    first: list[NDArray[np.int64]] = field(default_factory=list)
    classes: list[NDArray[np.int64]] = field(default_factory=list)
    nodata: int = 0
    count: int = 0

    def extend(self, more: Pieces) -> None:
        """Take the pieces of further blocks, numbered on from these."""
        self.first += more.first
        self.classes += more.classes
        self.nodata += more.nodata
        self.count += sum(len(first) for first in more.first)

    def mapped(
        self,
        group: NDArray[np.int64],
        kept: NDArray[np.bool_],
        grid: BlockGrid,
        array: Store,
    ) -> InstanceMap:
        """The map of the instances that are the groups 0..max of pieces.

        group: (pieces,). kept: (groups,), which of them are instances. array: of the pieces.
        """
        first = np.full(len(kept), np.iinfo(np.int64).max)
        np.minimum.at(first, group, np.concatenate(self.first))
        classes = np.zeros(len(kept), np.int64)
        classes[group] = np.concatenate(self.classes)
        order = np.argsort(first)
        order = order[kept[order]]
        number = np.zeros(len(kept), np.uint32)
        number[order] = np.arange(1, len(order) + 1)
        stops = np.cumsum([len(first) for first in self.first])[:-1]
        numbers = [np.append(np.uint32(0), part) for part in np.split(number[group], stops)]
        return InstanceMap(grid, array, numbers, np.append(-1, classes[order]), self.nodata)
