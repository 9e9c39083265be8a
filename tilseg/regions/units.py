"""Regions in world units: areas, perimeters and centroids in metres, micrometres or degrees.

A CRS whose unit is called metre need not be true to scale: Web Mercator draws areas at 60
degrees four times too large. So the scale is measured on the ellipsoid, and one area for all
pixels is taken only where that is right to a quarter of a percent (UTM and its like; every
equal-area projection). Elsewhere each pixel has its own area; a region's is their sum, which
adds up over blocks.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tilseg.georef import Georef, PixelSize
from tilseg.lengths import convert
from tilseg.regions.map_grid import MapGrid
from tilseg.regions.region_table import RegionTable
from tilseg.window import Size, Window

_Floats = NDArray[np.float64]

_TRUE_TO_SCALE = 0.0025  # UTM's own pixels are 0.08 % too small to 0.2 % too large
_SQUARE = 0.02
_SAME_LENGTH = 0.01


@dataclass(frozen=True, slots=True)
class World:
    """How the pixels of a mask measure in the world.

    unit: "m", "um", ... of lengths; areas are in its square.
    method: "planar" when every pixel has the area `pixel_area`, "rows" when those of a row
        have (a grid of longitude and latitude), "pixels" when each has its own.
    pixel_area: area of a pixel as the grid has it, in squared units; in degrees, of the middle
        pixel.
    scale: least and largest true area of a pixel over `pixel_area`, measured.
    square: whether pixels are squares in the world to 2 %, so that perimeters have a meaning.
    """

    georef: Georef
    unit: str
    method: Literal["planar", "rows", "pixels"]
    pixel_area: float
    scale: tuple[float, float]
    square: bool

    def weights(self, window: Window) -> _Floats | None:
        """Areas for `measure_block`: (rows,) or (rows, cols) float64, None when all are equal.

        In method "pixels" NaN where the CRS has no place for a pixel; good to 1e-8 or better.
        """
        if self.method == "planar":
            return None
        grid = _grid(self.georef)
        return grid.row_areas(window) if self.method == "rows" else grid.pixel_areas(window)

    def describe(self, regions: RegionTable) -> RegionTable:
        """Regions that were measured with this world's weights, with world columns.

        area_<unit>2 (in place of area_world); perimeter_<unit> where pixels are square;
        centroid_x, centroid_y in the CRS (or in `unit` from the upper left corner); on a map
        lon, lat in degrees (WGS 84).
        """
        columns = {k: v for k, v in regions.columns.items() if k != "area_world"}
        return replace(regions, columns=columns | self._columns(regions))

    def _columns(self, regions: RegionTable) -> dict[str, NDArray[Any]]:
        pixels = regions.columns["area"].astype(np.float64)
        area = pixels * self.pixel_area
        if self.method != "planar":
            area = regions.columns["area_world"]
        columns: dict[str, NDArray[Any]] = {f"area_{self.unit}2": area}
        if self.square:
            side = np.sqrt(area / pixels)
            columns[f"perimeter_{self.unit}"] = regions.columns["perimeter"] * side
        rows, cols = (regions.columns[f"centroid-{axis}"] + 0.5 for axis in (0, 1))
        if self.georef.is_map:
            x, y = _grid(self.georef).to_crs(rows, cols)
            lon, lat = _grid(self.georef).to_wgs84(x, y)
            return columns | {"centroid_x": x, "centroid_y": y, "lon": lon, "lat": lat}
        size = self.georef.pixel_size
        assert size is not None
        return columns | {"centroid_x": cols * size.cols, "centroid_y": rows * size.rows}


def world_units(georef: Georef, shape: Size) -> World | None:
    """How a mask of `shape` on this grid measures; None where that is not known.

    Raises InputError E-INPUT-READ for a CRS that can't be understood.
    """
    if not georef.is_map:
        size = georef.pixel_size
        if size is None or size.area is None:
            return None
        square = abs(size.rows / size.cols - 1) <= _SQUARE
        return World(georef, size.unit, "planar", size.area, (1.0, 1.0), square)
    if georef.crs is None:
        return None
    grid = _grid(georef)
    if grid.ellipsoid is None:
        return None
    rows, cols = (np.linspace(0, length, 9) for length in shape)
    area, squares = grid.measure(rows, cols)
    known = np.isfinite(area)
    if not known.any():
        return None
    pixel_area = grid.planar_area
    if pixel_area is None:
        middle = area[known]
        pixel_area = float(middle[len(middle) // 2])
    scale = (float(area[known].min() / pixel_area), float(area[known].max() / pixel_area))
    planar = max(abs(scale[0] - 1), abs(scale[1] - 1)) <= _TRUE_TO_SCALE
    method: Literal["planar", "rows", "pixels"] = "pixels"
    if grid.has_parallel_rows:
        method = "rows"
    elif planar and grid.planar_area is not None:
        method = "planar"
    return World(georef, "m", method, pixel_area, scale, bool(squares[known].all()))


def ground_size(georef: Georef, shape: Size) -> PixelSize | None:
    """Size of a pixel, on the ground in the middle of an image of `shape` if it is on a map.

    The CRS's own length where it is right to a hundredth, so that 10 m of UTM are 10 m; else
    metres on the ellipsoid. None where the middle has no place there.

    Raises InputError E-INPUT-READ for a CRS that can't be understood.
    """
    stated = georef.pixel_size
    if georef.crs is None or georef.transform is None or _grid(georef).ellipsoid is None:
        return stated
    rows, cols = _grid(georef).sides(shape.rows / 2, shape.cols / 2)
    if stated is not None:
        # Not a number for degrees, which are never right.
        ratios = [
            (convert(side, stated.unit, "m") or np.nan) / true
            for side, true in ((stated.rows, rows), (stated.cols, cols))
        ]
        if all(abs(ratio - 1) <= _SAME_LENGTH for ratio in ratios):
            return stated
    return PixelSize(rows, cols, "m") if np.isfinite(rows * cols) else None


@functools.lru_cache(maxsize=8)
def _grid(georef: Georef) -> MapGrid:
    return MapGrid(georef)
