"""The table of regions of a result, as a page asks for it: one by one, or a hundred in order.

What finds and sorts regions is kept in memory, some 25 bytes a region and 4 for each of the last two
orders that were asked for; all else is read from the file in groups of 65,536.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyarrow import parquet

_BOX = ("bbox-0", "bbox-1", "bbox-2", "bbox-3")


class Regions:
    """The rows of a regions.parquet; row n is the region with the label n + 1.

    classes: (n,) uint8. areas: (n,) int64, in pixels. boxes: four (n,) int32 of first and last row and column, in the pixels of
    the mask, the last ones exclusive; first rows ascend, as labels do.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file = parquet.ParquetFile(path)
        self.columns: tuple[str, ...] = tuple(self._file.schema_arrow.names)
        groups = range(self._file.metadata.num_row_groups)
        rows = [self._file.metadata.row_group(group).num_rows for group in groups]
        self._starts = np.cumsum([0, *rows])
        self.classes = self._column("class").astype(np.uint8)
        self.areas = self._column("area").astype(np.int64)
        self.boxes = tuple(self._column(name).astype(np.int32) for name in _BOX)
        self._order = functools.lru_cache(maxsize=2)(self._sorted)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def at(self, row: int, col: int, value: int | None) -> NDArray[np.intp]:
        """Indices of the regions of class `value`, or of any, whose boxes hold a pixel."""
        top, left, bottom, right = self.boxes
        stop = int(np.searchsorted(top, row, "right"))
        found = bottom[:stop] > row
        found &= left[:stop] <= col
        found &= right[:stop] > col
        indices: NDArray[np.intp] = np.flatnonzero(found)
        return indices if value is None else indices[self.classes[indices] == value]

    def row(self, index: int) -> dict[str, Any]:
        """All that is known of one region, by column."""
        return self._rows(np.array([index]), self.columns)[0]

    def page(
        self, by: str, down: bool, start: int, count: int, columns: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Some columns of rows start..start+count-1, in ascending order of a column or `down`."""
        order = self._order(by)
        wanted = np.arange(start, min(start + count, len(self)))
        return self._rows(order[len(self) - 1 - wanted] if down else order[wanted], columns)

    def place(self, by: str, down: bool, index: int) -> int:
        """How many regions come before one in that order."""
        order = self._order(by)
        before = int(np.flatnonzero(order == index)[0])
        return len(self) - 1 - before if down else before

    def _column(self, name: str) -> NDArray[Any]:
        with self._lock:
            table = self._file.read([name], use_threads=False)
        values: NDArray[Any] = table.column(0).to_numpy()
        return values

    def _sorted(self, by: str) -> NDArray[np.int32]:
        return np.argsort(self._column(by), kind="stable").astype(np.int32)

    def _rows(self, indices: NDArray[Any], columns: Sequence[str]) -> list[dict[str, Any]]:
        """Rows in the order of `indices`; each group of the file is read once."""
        groups = np.searchsorted(self._starts, indices, "right") - 1
        found: list[dict[str, Any]] = [{} for _ in indices]
        for group in np.unique(groups):
            # One thread a question: handing columns to others takes longer than reading them.
            with self._lock:
                table = self._file.read_row_group(int(group), list(columns), use_threads=False)
            values = {name: table.column(name).to_numpy() for name in columns}
            for place in np.flatnonzero(groups == group):
                row = indices[place] - self._starts[group]
                found[place] = {name: column[row].item() for name, column in values.items()}
        return found
