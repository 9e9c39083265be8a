"""True areas of the pixels of a georeferenced grid, measured on the ellipsoid."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.georef import Georef
from tilseg.regions.ellipsoid import Ellipsoid
from tilseg.window import Window

_Floats = NDArray[np.float64]

_SQUARE = 0.02
_STEP = 2000.0  # metres on each side over which a map's slope is taken
_CELL = 256  # pixels; and no more than:
_CELL_METRES = 500e3
_NODES = 6

# In WKT 1 or, for the projections that has no words for, WKT 2.
_ELLIPSOID = r'(?:SPHEROID|ELLIPSOID)\["[^"]*",([-+.\deE]+),([-+.\deE]+)'
_DEGREES = (
    'GEOGCS["",DATUM["",SPHEROID["",{},{}]],PRIMEM["Greenwich",0],'
    'UNIT["degree",0.0174532925199433]]'
)


class MapGrid:
    """A georeferenced grid of pixels on its ellipsoid.

    ellipsoid: None for a CRS that has none, which then has no areas either.
    is_geographic: whether the CRS is in longitude and latitude.
    planar_area: area in m^2 of a pixel as the grid has it; None in degrees.
    """

    def __init__(self, georef: Georef) -> None:
        assert georef.crs is not None
        self.affine: Affine = georef.affine
        self._crs = crs = _crs(georef.crs)
        self.is_geographic = bool(crs.is_geographic)
        self.ellipsoid: Ellipsoid | None = None
        self.planar_area: float | None = None
        found = re.search(_ELLIPSOID, crs.to_wkt())
        if found is None or not (crs.is_geographic or crs.is_projected):
            return
        self.ellipsoid = Ellipsoid(float(found[1]), float(found[2]))
        # Its own ellipsoid, whatever the datum: moving datums would move areas.
        self._base = crs if crs.is_geographic else _crs(_DEGREES.format(*found.groups()))
        self._radian = float(self._base.units_factor[1])
        area = abs(float(self.affine.determinant))
        if crs.is_geographic:
            # Side of a pixel in metres, roughly.
            self._pixel = area**0.5 * self._radian * self.ellipsoid.a
        else:
            self._pixel = area**0.5 * float(crs.linear_units_factor[1])
            self.planar_area = self._pixel**2

    @property
    def has_parallel_rows(self) -> bool:
        """Whether each row of pixels lies between two parallels."""
        return self.is_geographic and self.affine.b == self.affine.d == 0

    def to_crs(self, rows: _Floats, cols: _Floats) -> tuple[_Floats, _Floats]:
        """Coordinates of places counted in pixels from the corner of pixel (0, 0)."""
        a, b, c, d, e, f = self.affine[:6]
        return a * cols + b * rows + c, d * cols + e * rows + f

    def to_wgs84(self, x: _Floats, y: _Floats) -> tuple[_Floats, _Floats]:
        """Longitudes and latitudes in degrees (WGS 84) of places in the CRS; infinite where the
        CRS has no place, such as beside the Earth's disk that a satellite sees."""
        import rasterio.warp
        from rasterio._err import CPLE_BaseError  # what transform raises has no public name
        from rasterio.crs import CRS

        try:
            lon, lat = rasterio.warp.transform(self._crs, CRS.from_epsg(4326), x, y)
        except CPLE_BaseError:
            # One point without a place spoils the whole call for some projections.
            if len(x) == 1:
                return np.full(1, np.inf), np.full(1, np.inf)
            half = len(x) // 2
            parts = self.to_wgs84(x[:half], y[:half]), self.to_wgs84(x[half:], y[half:])
            lon, lat = (np.concatenate(pair) for pair in zip(*parts, strict=True))
        return np.asarray(lon), np.asarray(lat)

    def row_areas(self, window: Window) -> _Floats:
        """(rows,) area in m^2 of a pixel of each row of a grid with parallel rows."""
        assert self.ellipsoid is not None
        edges = self.affine.f + self.affine.e * np.arange(window.row, window.row_stop + 1)
        low, high = np.sort(np.stack([edges[:-1], edges[1:]]), axis=0) * self._radian
        return self.ellipsoid.cell_area(low, high, self.affine.a * self._radian)

    def measure(self, rows: _Floats, cols: _Floats) -> tuple[_Floats, NDArray[np.bool_]]:
        """True area in m^2 of a pixel, and whether it is square, at each (row, col) corner.

        rows, cols: (m,), (n,) from the corner of pixel (0, 0); returns (m, n) each. NaN where
        the CRS has no place.
        """
        at_rows, at_cols = (grid.ravel() for grid in np.meshgrid(rows, cols, indexing="ij"))
        down, across = self._slopes(at_rows, at_cols)
        area = np.linalg.norm(np.cross(down, across), axis=-1)
        height, width = np.linalg.norm(down, axis=-1), np.linalg.norm(across, axis=-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            square = (np.abs(height / width - 1) <= _SQUARE) & (
                np.abs(area / (height * width) - 1) <= _SQUARE**2
            )
        shape = len(rows), len(cols)
        return np.where(np.isfinite(area), area, np.nan).reshape(shape), square.reshape(shape)

    def sides(self, row: float, col: float) -> tuple[float, float]:
        """True height and width in metres of a pixel at a corner; not finite where it has no place."""
        down, across = self._slopes(np.array([row]), np.array([col]))
        return float(np.linalg.norm(down)), float(np.linalg.norm(across))

    def _slopes(self, rows: _Floats, cols: _Floats) -> tuple[_Floats, _Floats]:
        """(n, 3) metres on the ellipsoid from each place one row down, and one column across.

        Of fourth order over some kilometres: an error of 1e-13, where differences over one pixel
        would cancel to 1e-7 of it.
        """
        step = _STEP / self._pixel
        down, across = np.zeros((2, len(rows), 3))
        for ahead, weight in ((1, 8 / 12), (-1, -8 / 12), (2, -1 / 12), (-2, 1 / 12)):
            far = ahead * step
            down += weight / step * self._place(rows + far, cols)
            across += weight / step * self._place(rows, cols + far)
        return down, across

    def _place(self, rows: _Floats, cols: _Floats) -> _Floats:
        """(n, 3) places on the ellipsoid, not finite where there is none."""
        assert self.ellipsoid is not None
        x, y = self.to_crs(rows, cols)
        if not self.is_geographic:
            x, y = self._to_base(x, y)
        with np.errstate(invalid="ignore"):
            return self.ellipsoid.point(x * self._radian, y * self._radian)

    def _to_base(self, x: _Floats, y: _Floats) -> tuple[_Floats, _Floats]:
        """Longitudes and latitudes, NaN where the CRS has no place for them or a neighbour."""
        import rasterio.warp
        from rasterio._err import CPLE_BaseError

        try:
            lon, lat = rasterio.warp.transform(self._crs, self._base, x, y)
        except CPLE_BaseError:
            # One place that does not exist spoils a whole call: find out which.
            if len(x) <= _NODES:
                return np.full(len(x), np.nan), np.full(len(x), np.nan)
            half = len(x) // 2
            first, second = self._to_base(x[:half], y[:half]), self._to_base(x[half:], y[half:])
            return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])
        return np.asarray(lon), np.asarray(lat)

    def pixel_areas(self, window: Window) -> _Floats:
        """(rows, cols) area in m^2 of each pixel, from cells that lie the same for any window.

        Within a cell the area is a polynomial through exact values at its nodes.
        """
        cell = max(1, min(_CELL, int(_CELL_METRES / self._pixel)))
        nodes, basis = _basis(cell)
        row, rows = window.row // cell, -(-window.row_stop // cell)
        col, cols = window.col // cell, -(-window.col_stop // cell)
        at_rows = (np.arange(row, rows)[:, None] * cell + nodes).ravel()
        at_cols = (np.arange(col, cols)[:, None] * cell + nodes).ravel()
        values = self.measure(at_rows, at_cols)[0].reshape(rows - row, _NODES, cols - col, _NODES)
        areas = basis @ values.transpose(0, 2, 1, 3) @ basis.T
        whole = areas.transpose(0, 2, 1, 3).reshape((rows - row) * cell, (cols - col) * cell)
        inside = window.relative_to(Window(row * cell, col * cell, 0, 0))
        return np.ascontiguousarray(whole[inside.slices])


@functools.lru_cache(maxsize=8)
def _basis(cell: int) -> tuple[_Floats, _Floats]:
    """Nodes in a cell, and (cell, nodes) weights that give each pixel's mean from them."""
    angle = (np.arange(_NODES) + 0.5) * np.pi / _NODES
    nodes = np.cos(angle)
    gauss, weights = np.polynomial.legendre.leggauss(3)
    # Three points a pixel: its area is the mean over it, not the value at its middle.
    at = (np.arange(cell)[:, None] + 0.5 + gauss / 2) * 2 / cell - 1
    vander = np.polynomial.chebyshev.chebvander
    inverse = np.linalg.inv(vander(nodes, _NODES - 1))
    values = vander(at, _NODES - 1) @ inverse
    return (nodes + 1) * cell / 2, np.einsum("pgn,g->pn", values, weights / 2)


def _crs(wkt: str) -> Any:
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    import tilseg.gdal_env  # noqa: F401

    try:
        return CRS.from_wkt(wkt)
    except CRSError as error:
        raise InputError("E-INPUT-READ", path="the image's CRS", reason=error) from None
