"""The pixels along the seams: strips of all blocks, put together where seams are looked at.

A seam line is the border between two rows of blocks, or between two columns. It owns the
windows that straddle it and the pixels up to 2 from it (those that an earlier line does not
own), whose codes take 2 pixels more on each side to tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tilseg.regions.block import STRIP, BlockTable
from tilseg.regions.grid import BlockGrid
from tilseg.regions.perimeter import Raster
from tilseg.window import Size, Window

_REACH = 2


class Line(NamedTuple):
    """A seam before row (or column) `at`, which owns the rows start..stop-1 (or columns)."""

    at: int
    start: int
    stop: int


def lines(length: int, step: int) -> list[Line]:
    """The seams of an axis of `length` pixels cut every `step`."""
    found: list[Line] = []
    owned = 0
    for at in range(step, length, step):
        line = Line(at, max(at - _REACH, owned), min(at + _REACH, length))
        owned = line.stop
        found.append(line)
    return found


class Frame(NamedTuple):
    """Strips of one block. kinds: (border components + 1,), 0 and then class + 1 of each;
    base: what makes a border component's number one of the whole mask."""

    window: Window
    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    kinds: NDArray[np.int64]
    base: int

    def part(self, window: Window) -> NDArray[np.int64]:
        """Border components in `window`, which lies in this block and in its strips."""
        inside = window.relative_to(self.window)
        if self.cols.shape[1] == 0:
            return self.rows[inside.slices]
        row, col = self.window.size
        if inside.row_stop <= STRIP or inside.row >= row - STRIP:
            return self.rows[_kept(inside.row, inside.rows, row), inside.slices[1]]
        return self.cols[inside.slices[0], _kept(inside.col, inside.cols, col)]


def _kept(start: int, count: int, length: int) -> slice:
    """Where the pixels start..start+count-1 are in the `block.ends` of an axis of `length`."""
    if length > 2 * STRIP and start >= length - STRIP:
        start -= length - 2 * STRIP
    return slice(start, start + count)


def frame(table: BlockTable, base: int) -> Frame:
    kinds = np.concatenate([[0], table.sums.classes[table.border] + 1])
    return Frame(table.window, table.strip_rows, table.strip_cols, kinds, base)


class Frames:
    """The frames of the blocks whose seams have not all been looked at."""

    def __init__(self, grid: BlockGrid) -> None:
        self._grid = grid
        self._rows: dict[int, dict[int, Frame]] = {}

    def add(self, index: int, one: Frame) -> int | None:
        """Keep a frame; returns its row of blocks if that is now complete."""
        row, col = divmod(index, self._grid.counts.cols)
        self._rows.setdefault(row, {})[col] = one
        return row if len(self._rows[row]) == self._grid.counts.cols else None

    def row_window(self, row: int) -> Window:
        """The pixels of a row of blocks."""
        first = self._rows[row][0].window
        return Window(first.row, 0, first.rows, self._grid.shape.cols)

    def drop_before(self, row: int) -> None:
        """Forget the rows of blocks that end above pixel row `row`."""
        for done in [r for r in self._rows if (r + 1) * self._grid.block.rows <= row]:
            del self._rows[done]

    def raster(self, window: Window) -> Raster:
        """Classes and components of `window`, every pixel of which is in a strip."""
        ids = np.zeros((window.rows + 2, window.cols + 2), dtype=np.int64)
        kinds = np.zeros_like(ids)
        for one, part in self._overlapping(window):
            here = Window(part.row + 1, part.col + 1, *part.size).relative_to(
                Window(window.row, window.col, 0, 0)
            )
            local = one.part(part)
            kinds[here.slices] = one.kinds[local]
            ids[here.slices] = np.where(local, local + one.base, 0)
        return Raster(kinds.ravel(), ids.ravel(), window.cols + 2)

    def _overlapping(self, window: Window) -> Iterator[tuple[Frame, Window]]:
        block = self._grid.block
        for row in range(window.row // block.rows, -(-window.row_stop // block.rows)):
            for col in range(window.col // block.cols, -(-window.col_stop // block.cols)):
                one = self._rows[row][col]
                yield one, window.intersection(one.window)


def along_row(line: Line, shape: Size) -> Window:
    """The pixels that a seam between rows of blocks looks at."""
    start, stop = max(line.start - _REACH, 0), min(line.stop + _REACH, shape.rows)
    return Window(start, 0, stop - start, shape.cols)


def along_column(line: Line, block_row: Window, shape: Size) -> Window:
    """The pixels that a seam between columns of blocks looks at, in one row of blocks."""
    start, stop = max(line.start - _REACH, 0), min(line.stop + _REACH, shape.cols)
    return Window(block_row.row, start, block_row.rows, stop - start)


def as_grid(values: NDArray[Any], stride: int) -> NDArray[Any]:
    """A flattened raster without its frame, as rows and columns."""
    return values.reshape(-1, stride)[1:-1, 1:-1]
