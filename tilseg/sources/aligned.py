"""An image seen on the grid of another: of each pixel the nearest one, nothing made up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.source import Source
from tilseg.sources.base import level_of
from tilseg.sources.derived import DerivedSource
from tilseg.sources.place import SAME, same_crs
from tilseg.window import Size, Window

# A centre on the side between two pixels is in the later one, however it was rounded.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class _Axis:
    """Along one axis, pixel i of the grid has its centre at scale * (i + 1/2) + shift of `size`."""

    scale: float
    shift: float
    size: int

    def pixels(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The pixels in which those centres lie, or else the nearest, and which do: both (n,)."""
        centre = self.scale * (np.arange(start, stop) + 0.5) + self.shift
        index = np.floor(centre + _ROUNDING)
        inside = (index >= 0) & (index < self.size)
        return np.clip(index, 0, self.size - 1).astype(np.int64), inside


class AlignedSource(DerivedSource):
    """`image` on the grid of `grid`, in the same CRS and not turned against it; one level.

    A pixel is the one of `image` that its centre falls into, and masked where there is none. Its
    row follows from its own row alone, its column from its column: any windows give the same.

    Raises InputError E-SCENE-ALIGN.
    """

    def __init__(self, image: Source, grid: Source) -> None:
        shape = grid.shape
        super().__init__(image, levels=(level_of(shape, shape),), georef=grid.georef)
        self._rows, self._cols = _axes(image, grid)
        down = self._rows.pixels(0, shape.rows)[1]
        across = self._cols.pixels(0, shape.cols)[1]
        if not (down.any() and across.any()):
            raise _refuse(image, grid, "they do not overlap")
        self._covers = bool(down.all() and across.all())

    def _read(self, window: Window, level: int, bands: tuple[int, ...]) -> NDArray[Any]:  # noqa: ARG002
        inside, index = self._nearest(window)
        pixels: NDArray[Any] = self.image.read(inside, 0, bands)[index]
        if not self._covers:
            pixels[~self._inside(window)] = 0 if self.nodata is None else self.nodata
        return pixels

    def _mask(self, window: Window, level: int) -> NDArray[np.bool_] | None:  # noqa: ARG002
        inside, index = self._nearest(window)
        mask = self.image.mask(inside)
        if mask is not None:
            mask = mask[index]
        if self._covers:
            return mask
        covered = self._inside(window)
        return covered if mask is None else mask & covered

    def _nearest(self, window: Window) -> tuple[Window, tuple[NDArray[Any], ...]]:
        """What to read of the image, and the index of the window's pixels in that."""
        rows, _ = self._rows.pixels(window.row, window.row_stop)
        cols, _ = self._cols.pixels(window.col, window.col_stop)
        row, col = int(rows.min()), int(cols.min())
        size = Size(int(rows.max()) + 1 - row, int(cols.max()) + 1 - col)
        return Window(row, col, *size), np.ix_(rows - row, cols - col)

    def _inside(self, window: Window) -> NDArray[np.bool_]:
        _, rows = self._rows.pixels(window.row, window.row_stop)
        _, cols = self._cols.pixels(window.col, window.col_stop)
        return rows[:, None] & cols


def _axes(image: Source, grid: Source) -> tuple[_Axis, _Axis]:
    own, other = image.georef, grid.georef
    if not (own.is_map and other.is_map):
        raise _refuse(image, grid, "one of them does not say where it lies")
    if not same_crs(own.crs, other.crs):
        raise _refuse(image, grid, "they have different CRSs")
    onto = ~own.affine * other.affine
    if abs(onto.b) * grid.shape.rows > SAME or abs(onto.d) * grid.shape.cols > SAME:
        raise _refuse(image, grid, "one is turned against the other")
    return (
        _Axis(onto.e, onto.f, image.shape.rows),
        _Axis(onto.a, onto.c, image.shape.cols),
    )


def _refuse(image: Source, grid: Source, reason: str) -> InputError:
    return InputError("E-SCENE-ALIGN", path=image.uri, grid=grid.uri, reason=reason)
