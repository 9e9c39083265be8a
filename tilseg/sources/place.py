"""Whether two grids lie in one place."""

from __future__ import annotations

import numpy as np

from tilseg.georef import Georef
from tilseg.window import Size

# Grids that differ by less than this part of a pixel are one: writers round transforms.
SAME = 0.01


def same_crs(one: str | None, other: str | None) -> bool:
    """Whether two CRSs, as WKT or as "EPSG:4326", are one; None is only None.

    Raises rasterio's CRSError.
    """
    if one is None or other is None or one == other:
        return one == other
    from tilseg.vector import projection

    return projection.same_crs(one, other)


def same_place(one: Georef, other: Georef, shape: Size) -> bool:
    """Whether the corners of two maps of one shape are in the same places, to a hundredth pixel."""
    if not same_crs(one.crs, other.crs):
        return False
    rows = np.array([0, 0, shape.rows, shape.rows], np.float64)
    cols = np.array([0, shape.cols, 0, shape.cols], np.float64)
    there = ~other.affine * (one.affine * (cols, rows))
    return bool(max(np.abs(there[0] - cols).max(), np.abs(there[1] - rows).max()) < SAME)
