"""Which pixels hold data. Decided pixel by pixel, so the answer is the same for any tiling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.model import BandStatistics

# In every mask: no data, or not computed. It is never a class.
NODATA = 255


def valid_pixels(
    pixels: NDArray[Any], nodata: float | None, mask: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_] | None:
    """Where (rows, cols, bands) pixels hold data: (rows, cols) bool, or None for everywhere.

    A pixel is nodata where `mask` is false, where every band equals `nodata` (GDAL's rule for
    a dataset mask), or where any band is NaN or infinite.
    """
    valid = mask
    if np.issubdtype(pixels.dtype, np.floating):
        finite = np.isfinite(pixels).all(axis=2)
        if not finite.all():
            valid = finite if valid is None else valid & finite
    if nodata is not None and math.isfinite(nodata):
        missing = (pixels == nodata).all(axis=2)
        if missing.any():
            valid = ~missing if valid is None else valid & ~missing
    return None if valid is None or valid.all() else valid


def fill_invalid(
    pixels: NDArray[Any], valid: NDArray[np.bool_] | None, statistics: BandStatistics
) -> NDArray[Any]:
    """`pixels` with the band mean where there is no data, so that the network sees a neutral
    ground there; the image itself when everything is valid. Integers get the rounded mean.
    """
    if valid is None:
        return pixels
    mean = np.asarray(statistics.mean)
    if np.issubdtype(pixels.dtype, np.integer):
        mean = np.rint(mean)
    return np.where(valid[..., None], pixels, mean.astype(pixels.dtype))
