"""What only neighbouring blocks together can tell: joins, and neighbourhoods across borders."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilseg.regions import perimeter
from tilseg.regions.block import BlockTable
from tilseg.regions.components import Connectivity
from tilseg.regions.frames import Frames, Line, along_column, along_row, as_grid, frame, lines
from tilseg.regions.grid import BlockGrid
from tilseg.regions.perimeter import Bounds, Counts, Raster
from tilseg.window import Window


class Tally:
    """Neighbourhoods met along seams and those left open, by border component of the mask.

    codes: how many there are; id_columns: which columns of an open record are components.
    """

    def __init__(self, codes: int, width: int, id_columns: tuple[int, ...]) -> None:
        self._codes = codes
        self._id_columns = list(id_columns)
        self._keys = [np.zeros(0, dtype=np.int64)]
        self._counts = [np.zeros(0, dtype=np.int64)]
        self._open = [np.zeros((0, width), dtype=np.int64)]

    def count(self, met: Counts) -> None:
        keys, counts = np.unique(met.ids * self._codes + met.codes, return_counts=True)
        self._keys.append(keys)
        self._counts.append(counts)
        self._open.append(met.open)

    def leave_open(self, records: NDArray[np.int64], base: int) -> None:
        """Keep a block's open records, whose components begin after `base` in the mask."""
        records = records.copy()
        ids = records[:, self._id_columns]
        records[:, self._id_columns] = np.where(ids, ids + base, 0)
        self._open.append(records)

    @property
    def open(self) -> NDArray[np.int64]:
        return np.concatenate(self._open)

    def add_to(self, table: NDArray[np.int64]) -> None:
        """Add what was met to `table` (components, codes), whose first row is component 1."""
        ids, codes = np.divmod(np.concatenate(self._keys), self._codes)
        np.add.at(table, (ids - 1, codes), np.concatenate(self._counts))


class Seams:
    """Looks along every seam of a mask as soon as the blocks on both sides are there.

    pairs: border components to join. windows, pixels: what was met.
    """

    def __init__(self, grid: BlockGrid) -> None:
        self.windows = Tally(perimeter.WINDOW_CODES, 4, (0, 2))
        self.pixels = Tally(len(perimeter.PIXEL_CODES), 6, (0, 2, 3, 4, 5))
        self._grid = grid
        self._frames = Frames(grid)
        self._pairs = [np.zeros((2, 0), dtype=np.int64)]
        self._row_lines = lines(grid.shape.rows, grid.block.rows)
        self._col_lines = lines(grid.shape.cols, grid.block.cols)
        self._waiting: set[int] = set()
        self._next_row = 0
        self._next_line = 0

    @property
    def pairs(self) -> NDArray[np.int64]:
        """(2, n) border components that touch across a seam."""
        return np.concatenate(self._pairs, axis=1)

    def add(self, table: BlockTable, base: int) -> None:
        """Take the strips of one block, whose border components begin after `base`."""
        self.windows.leave_open(table.open_windows, base)
        self.pixels.leave_open(table.open_pixels, base)
        row = self._frames.add(self._grid.index(table.window), frame(table, base))
        if row is None:
            return
        window = self._frames.row_window(row)
        for line in self._col_lines:
            self._look_along_column(line, window, table.rules.connectivity)
        self._waiting.add(row)
        while self._next_row in self._waiting:
            self._waiting.remove(self._next_row)
            self._next_row += 1
            self._look_along_rows(table.rules.connectivity)

    def _look_along_rows(self, connectivity: Connectivity) -> None:
        """Look along the lines for which enough rows of blocks are there; forget the others."""
        shape = self._grid.shape
        there = min(self._next_row * self._grid.block.rows, shape.rows)
        for line in self._row_lines[self._next_line :]:
            window = along_row(line, shape)
            if window.row_stop > there:
                self._frames.drop_before(window.row)
                return
            self._look_along_row(line, window, connectivity)
            self._next_line += 1
        self._frames.drop_before(there)

    def _look_along_row(self, line: Line, window: Window, connectivity: Connectivity) -> None:
        raster = self._frames.raster(window)
        at = line.at - window.row
        self._join(raster, at, connectivity)
        whole = Bounds(at, at + 1, 0, window.cols + 1)
        self.windows.count(perimeter.count_windows(raster, whole, connectivity, None))
        first = line.start - window.row + 1
        owned = Bounds(first, first + line.stop - line.start, 1, window.cols + 1)
        self.pixels.count(perimeter.count_pixels(raster, owned, connectivity, None))

    def _look_along_column(self, line: Line, block_row: Window, connectivity: Connectivity) -> None:
        window = along_column(line, block_row, self._grid.shape)
        raster = self._frames.raster(window)
        at = line.at - window.col
        kinds, ids = as_grid(raster.kinds, raster.stride), as_grid(raster.ids, raster.stride)
        self._join(perimeter.framed(kinds.T, ids.T), at, connectivity)
        # What straddles rows of blocks too, or is near them, belongs to the row lines.
        above, below = window.row > 0, window.row_stop < self._grid.shape.rows
        between = Bounds(int(above), window.rows + 1 - below, at, at + 1)
        self.windows.count(perimeter.count_windows(raster, between, connectivity, None))
        first = line.start - window.col + 1
        owned = Bounds(
            1 + 2 * above, window.rows + 1 - 2 * below, first, first + line.stop - line.start
        )
        self.pixels.count(perimeter.count_pixels(raster, owned, connectivity, None))

    def _join(self, raster: Raster, at: int, connectivity: Connectivity) -> None:
        """Note the components that touch between rows at-1 and at (without frame)."""
        stride = raster.stride
        one, other = slice(at * stride, (at + 1) * stride), (at + 1) * stride
        for step in (0,) if connectivity == 1 else (-1, 0, 1):
            beside = slice(other + step, other + step + stride)
            a, b = raster.kinds[one], raster.kinds[beside]
            touch = np.flatnonzero((a == b) & (a != 0))
            pairs = np.stack([raster.ids[one][touch], raster.ids[beside][touch]])
            # Neighbouring pixels mostly say the same.
            new = np.diff(pairs, axis=1, prepend=0).any(axis=0)
            self._pairs.append(pairs[:, new])
