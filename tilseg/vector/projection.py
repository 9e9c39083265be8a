"""Coordinates from one CRS to another, through rasterio, and on the pixels of a grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import rasterio.warp
import shapely
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # what warp.transform raises has no public name
from rasterio.crs import CRS
from rasterio.errors import CRSError

import tilseg.gdal_env  # noqa: F401
from tilseg.georef import Georef


def on_pixels(
    polygons: NDArray[Any], crs: str, georef: Georef, *, pieces: int | None = None
) -> NDArray[Any]:
    """(n,) polygons of `crs` in columns and rows of a grid that has a CRS, vertex by vertex.

    pieces: first cut edges that are longer than this part of their polygon, for an edge that is
    straight in one CRS is a curve in another; None for no cuts.

    Raises ValueError for a CRS that can't be used, and for places the grid's CRS does not have.
    """
    try:
        if not same_crs(crs, str(georef.crs)):
            polygons = _brought_over(_cut(polygons, pieces), crs, str(georef.crs))
    except CRSError as error:
        raise ValueError(f"its CRS can't be used ({error})") from None
    points = shapely.get_coordinates(polygons)
    cols, rows = ~georef.affine * (points[:, 0], points[:, 1])
    return _with_points(polygons, np.column_stack([cols, rows]))


def _cut(polygons: NDArray[Any], pieces: int | None) -> NDArray[Any]:
    boxes = shapely.bounds(polygons)
    extent = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    if pieces is None or not (extent > 0).all():
        return polygons
    return np.asarray(shapely.segmentize(polygons, extent / pieces))


def _brought_over(polygons: NDArray[Any], one: str, other: str) -> NDArray[Any]:
    moved = project(shapely.get_coordinates(polygons), one, other)
    if not np.isfinite(moved).all():
        raise ValueError("some of its coordinates lie outside the image's CRS")
    return _with_points(polygons, moved)


def _with_points(polygons: NDArray[Any], points: NDArray[np.float64]) -> NDArray[Any]:
    return np.asarray(shapely.set_coordinates(polygons.copy(), points))


def same_crs(one: str, other: str) -> bool:
    """Whether two CRSs, as WKT or as "EPSG:4326", are one. Raises rasterio's CRSError."""
    return bool(CRS.from_user_input(one) == CRS.from_user_input(other))


def crs_name(crs: str) -> str:
    """ "EPSG:4326" for a CRS that is exactly that, else its own name. Raises rasterio's CRSError."""
    known = CRS.from_user_input(crs)
    code = known.to_epsg(confidence_threshold=100)
    return f"EPSG:{code}" if code else str(known.to_dict(projjson=True).get("name", "a CRS"))


def wkt2(crs: str) -> str:
    """The same CRS as WKT 2 (ISO 19162:2019). Raises rasterio's CRSError."""
    return str(CRS.from_user_input(crs).to_wkt(version="WKT2_2019"))


def project(points: NDArray[np.float64], one: str, other: str) -> NDArray[np.float64]:
    """(n, 2) points, x before y, from CRS `one` to `other`; infinite where it has no such place.

    Raises rasterio's CRSError.
    """
    own, wanted = CRS.from_user_input(one), CRS.from_user_input(other)
    return _moved(points, own, wanted)


def _moved(points: NDArray[np.float64], own: CRS, wanted: CRS) -> NDArray[np.float64]:
    try:
        moved = rasterio.warp.transform(own, wanted, points[:, 0], points[:, 1])
    except CPLE_BaseError:
        # One place that can't be brought over, such as a latitude of 95, fails the whole call.
        if len(points) == 1:
            return np.full((1, 2), np.inf)
        half = len(points) // 2
        parts = [_moved(part, own, wanted) for part in (points[:half], points[half:])]
        return np.concatenate(parts)
    return np.column_stack(moved)
