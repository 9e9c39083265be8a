"""The pixels of an image as a network of a plan sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.nodata import fill_invalid, valid_pixels
from tilseg.plan import Plan
from tilseg.source import Source
from tilseg.window import Window, read_mirrored


def read_filled(
    plan: Plan, source: Source, window: Window
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """`window` of the plan's grid, mirrored where it reaches outside the image, and its data.

    Returns (rows, cols, bands) in the image's dtype, the band mean where there is no data; and
    (rows, cols) bool of where there is, or None for everywhere. source: on the plan's grid.
    Raises what reading raises.
    """
    shape = plan.grid.shape

    def read(inside: Window) -> NDArray[Any]:
        return source.read(inside, plan.level, plan.bands)

    def mask(inside: Window) -> NDArray[Any]:
        found = source.mask(inside, plan.level)
        return np.ones(inside.size, np.bool_) if found is None else found

    pixels = read_mirrored(read, window, shape)
    valid = valid_pixels(pixels, source.nodata, read_mirrored(mask, window, shape))
    return fill_invalid(pixels, valid, plan.statistics), valid
