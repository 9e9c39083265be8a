"""Whether two class maps lie on one grid, and bringing one to the grid of the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.georef import Georef
from tilseg.sink import windows_of
from tilseg.sources.place import SAME, same_crs, same_place
from tilseg.truth.class_map import IGNORED, ClassMap
from tilseg.window import Size, Window

# Rows that are mapped at once, and pixels of the other map that are read at once.
_STRIP = 128
_MOST = 2**24

# (n,) columns and rows of pixel centres on one grid -> those on the other, in pixels.
_Points = tuple[NDArray[np.float64], NDArray[np.float64]]
_Mapping = Callable[[NDArray[np.float64], NDArray[np.float64]], _Points]


def on_grid_of(truth: ClassMap, grid: ClassMap, *, align: bool) -> ClassMap:
    """`truth` if it has the grid of `grid`; else, with `align`, seen on that grid.

    Two maps of one size are on one grid unless both state a place and the places differ.

    Raises InputError E-CLASSES-GRID without `align`; E-CLASSES-ALIGN where their places can't
    be compared.
    """
    if truth.shape == grid.shape and _same_place(truth.georef, grid.georef, grid.shape):
        return truth
    if not align:
        raise InputError(
            "E-CLASSES-GRID",
            path=truth.path,
            found=_described(truth),
            grid=grid.path,
            wanted=_described(grid),
        )
    return AlignedMap(truth, grid)


def _described(of: ClassMap) -> str:
    place = of.georef.transform
    where = "" if place is None else f" at ({place[2]:.10g}, {place[5]:.10g})"
    crs = "" if of.georef.crs is None else f" in {_crs_name(of.georef.crs)}"
    return f"{of.shape.rows} x {of.shape.cols} pixels{where}{crs}"


def _crs_name(crs: str) -> str:
    from tilseg.vector.projection import crs_name

    return crs_name(crs)


def _same_place(one: Georef, other: Georef, shape: Size) -> bool:
    return not one.is_map or not other.is_map or same_place(one, other, shape)


class AlignedMap:
    """A class map on the grid of another: each pixel has the class of the pixel that its centre
    falls into, and IGNORED outside. Each pixel is mapped by itself, whatever the window.
    """

    def __init__(self, inner: ClassMap, grid: ClassMap) -> None:
        self.path: str = inner.path
        self.shape: Size = grid.shape
        self.georef: Georef = grid.georef
        self.values: tuple[int, ...] = inner.values
        self.names: Mapping[int, str] = inner.names
        self.colors: Mapping[int, str] = inner.colors
        self.background: int | None = inner.background
        self._inner = inner
        self._mapping, how = _mapping(grid, inner)
        note = f"{inner.path}: aligned to the grid of {grid.path} by the nearest pixel, {how}"
        self.notes = (*inner.notes, note)

    def read(self, window: Window) -> NDArray[np.uint16]:
        found = np.full(window.size, IGNORED, np.uint16)
        for strip in windows_of(window.size, Size(_STRIP, window.cols)):
            rows, cols = np.mgrid[strip.slices]
            x, y = self._mapping(cols.ravel() + window.col + 0.5, rows.ravel() + window.row + 0.5)
            shape, inside = self._inner.shape, np.isfinite(x) & np.isfinite(y)
            inside &= (x >= 0) & (y >= 0) & (x < shape.cols) & (y < shape.rows)
            classes = np.full(len(x), IGNORED, np.uint16)
            classes[inside] = self._gather(
                np.floor(y[inside]).astype(np.int64), np.floor(x[inside]).astype(np.int64)
            )
            found[strip.slices] = classes.reshape(strip.size)
        return found

    def close(self) -> None:
        self._inner.close()

    def _gather(self, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.uint16]:
        """Classes of single pixels of the other map; where it is much finer, in parts."""
        if not len(rows):
            return np.zeros(0, np.uint16)
        row, col = int(rows.min()), int(cols.min())
        window = Window(row, col, int(rows.max()) + 1 - row, int(cols.max()) + 1 - col)
        if window.size.area > _MOST:
            half = len(rows) // 2
            parts = (self._gather(rows[s], cols[s]) for s in (slice(half), slice(half, None)))
            return np.concatenate(list(parts))
        pixels: NDArray[np.uint16] = self._inner.read(window)[rows - row, cols - col]
        return pixels


def _mapping(grid: ClassMap, truth: ClassMap) -> tuple[_Mapping, str]:
    """From pixels of the grid to pixels of the truth, and what that does to these, in words."""
    one, other = grid.georef, truth.georef
    if one.is_map and other.is_map:
        if same_crs(one.crs, other.crs):
            return _by_affine(~other.affine * one.affine)
        if one.crs is None or other.crs is None:
            raise _refuse(truth, "one has a CRS and the other has none")
        return _by_crs(one, other)
    if one.pixel_size and other.pixel_size and one.pixel_size.unit == other.pixel_size.unit:
        scale = Affine.scale(
            one.pixel_size.cols / other.pixel_size.cols, one.pixel_size.rows / other.pixel_size.rows
        )
        return _by_affine(scale)
    if one.is_map != other.is_map:
        raise _refuse(truth, "one is on a map and the other is not")
    return _by_affine(_by_size(grid, truth))


def _by_size(grid: ClassMap, truth: ClassMap) -> Affine:
    """Both show the whole picture, if a pixel more or less makes up for their proportions."""
    down = truth.shape.rows / grid.shape.rows
    across = truth.shape.cols / grid.shape.cols
    slack = max(1 / min(truth.shape), 1 / min(grid.shape))
    if abs(down / across - 1) > slack:
        raise _refuse(truth, "their sizes have other proportions and neither has a place")
    return Affine.scale(across, down)


def _by_affine(affine: Affine) -> tuple[_Mapping, str]:
    # Transforms that are written with fewer digits must not show as a shift of 1e-9 pixels.
    down, right = (round(-offset, 3) + 0.0 for offset in (affine.f, affine.c))
    vertical, horizontal = "above" if down < 0 else "below", "left" if right < 0 else "right"
    how = f"from {abs(down):g} rows {vertical} and {abs(right):g} columns {horizontal} of it"
    if not affine.almost_equals(Affine.translation(affine.c, affine.f), SAME):
        how = "from pixels of another size or direction"
    return lambda cols, rows: affine * (cols, rows), how


def _by_crs(one: Georef, other: Georef) -> tuple[_Mapping, str]:
    from tilseg.vector.projection import project

    def mapping(cols: NDArray[np.float64], rows: NDArray[np.float64]) -> _Points:
        moved = project(np.column_stack(one.affine * (cols, rows)), str(one.crs), str(other.crs))
        points: _Points = ~other.affine * (moved[:, 0], moved[:, 1])
        return points

    return mapping, f"from {_crs_name(str(other.crs))}"


def _refuse(truth: ClassMap, reason: str) -> InputError:
    return InputError("E-CLASSES-ALIGN", path=truth.path, reason=reason)
