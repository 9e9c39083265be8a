"""Coordinates from one CRS to another, through rasterio."""

from __future__ import annotations

import numpy as np
import rasterio.warp
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # what warp.transform raises has no public name
from rasterio.crs import CRS

import tilseg.gdal_env  # noqa: F401


def same_crs(one: str, other: str) -> bool:
    """Whether two CRSs, as WKT or as "EPSG:4326", are one. Raises rasterio's CRSError."""
    return bool(CRS.from_user_input(one) == CRS.from_user_input(other))


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
