"""From corners of a mask's pixels to the coordinates that a file of polygons holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from tilseg.errors import OutputError
from tilseg.georef import ONE_TO_ONE, Factors, Georef
from tilseg.regions.map_grid import MapGrid
from tilseg.window import Size

_Floats = NDArray[np.float64]
_Geometries = NDArray[Any]

# Of a pixel: how far a straight line in longitude and latitude may lie beside one on the map.
_APART = 0.01
_DIGITS = 7  # RFC 7946, section 11.2, calls six enough; seven are a centimetre
_FINE = 1e-4  # of a pixel: coordinates are not rounded more than that
# QuPath rounds to hundredths of a pixel as it reads; polygons must be valid after that.
_HUNDREDTHS = 2


@dataclass(frozen=True, slots=True)
class _Degrees:
    """How fine longitudes and latitudes must be. step: longest straight line in pixels."""

    step: float
    digits: int


@dataclass(frozen=True)
class Place:
    """Where the polygons of a mask of `shape` lie.

    georef: of the mask. scale: of its pixels over those of the image's level 0.
    All methods take polygons in the mask's pixels, x to the right and y down, and give polygons
    whose shells run anticlockwise.
    """

    georef: Georef
    shape: Size
    scale: Factors = ONE_TO_ONE

    @property
    def is_geographic(self) -> bool:
        """Whether there are longitudes and latitudes."""
        return self.georef.is_map and self.georef.crs is not None

    def on_grid(self, polygons: _Geometries) -> _Geometries:
        """In the CRS on a map, and elsewhere in pixels of the image's level 0."""
        if not self.georef.is_map:
            rows, cols = self.scale
            return np.asarray(shapely.transform(polygons, lambda xy: xy * (cols, rows)))
        a, b, c, d, e, f = self.georef.affine[:6]
        placed = shapely.transform(
            polygons,
            lambda xy: np.stack(
                [a * xy[:, 0] + b * xy[:, 1] + c, d * xy[:, 0] + e * xy[:, 1] + f], axis=1
            ),
        )
        return np.asarray(shapely.orient_polygons(placed))

    def in_image(self, polygons: _Geometries) -> _Geometries:
        """In pixels of the image's level 0, to a hundredth."""
        rows, cols = self.scale
        return _valid(
            shapely.transform(polygons, lambda xy: np.round(xy * (cols, rows), _HUNDREDTHS))
        )

    def in_degrees(self, polygons: _Geometries) -> _Geometries:
        """In longitude and latitude (WGS 84), cut at the antimeridian: RFC 7946, section 3.1.9.

        Raises OutputError E-POLYGON-DEGREES where the CRS has none.
        """
        digits = self._degrees.digits
        fine = shapely.segmentize(polygons, self._degrees.step)
        placed = np.asarray(shapely.transform(fine, self._to_degrees))
        self._cut(placed)
        return _valid(shapely.transform(placed, lambda xy: np.round(xy, digits)))

    @cached_property
    def _grid(self) -> MapGrid:
        return MapGrid(self.georef)

    def _to_degrees(self, xy: _Floats) -> _Floats:
        lon, lat = self._grid.to_wgs84(*self._grid.to_crs(xy[:, 1], xy[:, 0]))
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            raise OutputError("E-POLYGON-DEGREES", count=int((~np.isfinite(lon + lat)).sum()))
        return np.stack([lon, lat], axis=1)

    @cached_property
    def _degrees(self) -> _Degrees:
        """Measured on lines all over the mask, along and across."""
        length = max(1.0, min(self.shape) / 16)
        row, col = (
            each.ravel() for each in np.meshgrid(*(np.linspace(0, side, 9) for side in self.shape))
        )
        begin = self._place(row, col)
        pixel, apart = [], []
        for down, across in ((length, 0.0), (0.0, length)):
            middle = _turned(self._place(row + down / 2, col + across / 2) - begin)
            end = _turned(self._place(row + down, col + across) - begin)
            pixel.append(np.linalg.norm(end, axis=1) / length)
            apart.append(np.linalg.norm(middle - end / 2, axis=1))
        size, off = np.concatenate(pixel), np.concatenate(apart)
        known = np.isfinite(size) & np.isfinite(off) & (size > 0)
        if not known.any():
            return _Degrees(1.0, _DIGITS)
        # What a line is off grows with the square of its length; and which way round the world
        # a line goes is clear only for short ones.
        ratio = max(float((off[known] / size[known]).max()), 1e-12)
        step = min(length * math.sqrt(_APART / ratio), 90 / float(size[known].max()))
        digits = math.ceil(-math.log10(float(size[known].min()) * _FINE))
        return _Degrees(max(step, 1.0), max(_DIGITS, min(digits, 15)))

    def _place(self, row: _Floats, col: _Floats) -> _Floats:
        lon, lat = self._grid.to_wgs84(*self._grid.to_crs(row, col))
        return np.stack([lon, lat], axis=1)

    def _cut(self, polygons: _Geometries) -> None:
        """Cut in place what crosses the antimeridian or goes round a pole."""
        xy, number = shapely.get_coordinates(polygons, return_index=True)
        crossing = np.abs(xy[:, 0]) > 180
        crossing[1:] |= (np.abs(np.diff(xy[:, 0])) > 180) & (np.diff(number) == 0)
        for one in np.unique(number[crossing]):
            polygons[one] = _cut_at_antimeridian(polygons[one])


def _turned(difference: _Floats) -> _Floats:
    """Differences of longitude and latitude the short way round."""
    difference[:, 0] = (difference[:, 0] + 180) % 360 - 180
    return difference


def _cut_at_antimeridian(geometry: Any) -> Any:
    parts = []
    for polygon in shapely.get_parts(geometry):
        shell, *holes = (_within_world(ring) for ring in (polygon.exterior, *polygon.interiors))
        parts.append(shapely.difference(shell, shapely.union_all(holes)))
    pieces = shapely.get_parts(shapely.get_parts(parts))
    pieces = pieces[shapely.get_type_id(pieces) == shapely.GeometryType.POLYGON]
    return shapely.orient_polygons(shapely.multipolygons(pieces))


def _within_world(ring: Any) -> Any:
    """The area inside a ring of longitudes and latitudes, between 180 west and 180 east."""
    lon, lat = shapely.get_coordinates(ring).T
    # Whole turns, so that a ring that ends where it began does so to the last bit.
    lon = lon + 360 * np.round((np.unwrap(lon, period=360) - lon) / 360)
    if abs(lon[-1] - lon[0]) > 180:
        # Round a pole: along it, back to where it began.
        pole = math.copysign(90, float(lat.mean()))
        lon, lat = np.append(lon, [lon[-1], lon[0], lon[0]]), np.append(lat, [pole, pole, lat[0]])
    area = shapely.Polygon(np.stack([lon, lat], axis=1))
    turns = range(math.floor((lon.min() + 180) / 360), math.ceil((lon.max() + 180) / 360))
    world = (
        shapely.intersection(
            shapely.transform(area, lambda xy, turn=turn: xy - (360 * turn, 0)),
            shapely.box(-180, -90, 180, 90),
        )
        for turn in turns
    )
    return shapely.union_all(list(world))


def _valid(polygons: _Geometries) -> _Geometries:
    """Rounding may let a simplified outline touch itself; that alone is mended."""
    polygons = np.asarray(polygons)
    bad = ~shapely.is_valid(polygons)
    if bad.any():
        mended = shapely.make_valid(polygons[bad], method="structure", keep_collapsed=False)
        polygons[bad] = mended
    return np.asarray(shapely.orient_polygons(polygons))
