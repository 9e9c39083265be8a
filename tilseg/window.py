"""Pixel windows and the mirror at the edge of the image. Rows before columns, always."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Size(NamedTuple):
    """A height and a width in pixels."""

    rows: int
    cols: int

    @property
    def area(self) -> int:
        return self.rows * self.cols


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """The pixels [row, row + rows) x [col, col + cols); may reach outside the image."""

    row: int
    col: int
    rows: int
    cols: int

    @classmethod
    def whole(cls, size: Size) -> Window:
        return cls(0, 0, size.rows, size.cols)

    @property
    def size(self) -> Size:
        return Size(self.rows, self.cols)

    @property
    def row_stop(self) -> int:
        return self.row + self.rows

    @property
    def col_stop(self) -> int:
        return self.col + self.cols

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of this window in an array whose pixel [0, 0] is image pixel (0, 0)."""
        return slice(self.row, self.row_stop), slice(self.col, self.col_stop)

    def relative_to(self, origin: Window) -> Window:
        """The same pixels, counted from the corner of `origin`."""
        return Window(self.row - origin.row, self.col - origin.col, self.rows, self.cols)

    def intersection(self, other: Window) -> Window:
        """The common pixels; an empty window has 0 rows or columns."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        rows = max(0, min(self.row_stop, other.row_stop) - row)
        cols = max(0, min(self.col_stop, other.col_stop) - col)
        return Window(row, col, rows, cols)

    def contains(self, other: Window) -> bool:
        return (
            self.row <= other.row
            and self.col <= other.col
            and other.row_stop <= self.row_stop
            and other.col_stop <= self.col_stop
        )

    def __str__(self) -> str:
        return f"rows {self.row}:{self.row_stop}, cols {self.col}:{self.col_stop}"


def mirror_index(start: int, stop: int, size: int) -> NDArray[np.intp]:
    """Image indices of positions start..stop-1 on an axis of `size` pixels, mirrored.

    The mirror is numpy's `reflect`: about the centre of the edge pixel, which is not
    doubled, with period 2 (size - 1), for any distance outside. An axis of one pixel has
    period 0: that pixel repeats.

    Returns (stop - start,) intp.
    """
    position = np.arange(start, stop, dtype=np.intp)
    if size == 1:
        return np.zeros_like(position)
    position = np.mod(position, 2 * (size - 1))
    return np.minimum(position, 2 * (size - 1) - position)


def read_mirrored(
    read: Callable[[Window], NDArray[Any]], window: Window, image: Size
) -> NDArray[Any]:
    """`window` of the image mirrored outward without end, by one in-bounds `read`.

    `read` takes a window inside `image` and returns (rows, cols, ...); the result has the
    window's rows and columns. Mirroring in whole-image coordinates, not tile by tile, is
    what lets a tile reach further outside than the image is wide.
    """
    if Window.whole(image).contains(window):
        return read(window)
    rows = mirror_index(window.row, window.row_stop, image.rows)
    cols = mirror_index(window.col, window.col_stop, image.cols)
    row, col = int(rows.min()), int(cols.min())
    inside = Window(row, col, int(rows.max()) + 1 - row, int(cols.max()) + 1 - col)
    pixels = read(inside)
    return np.ascontiguousarray(pixels[np.ix_(rows - row, cols - col)])
