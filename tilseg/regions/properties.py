"""Region properties from sums, named and defined as in `skimage.measure.regionprops`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.regions import hull, intensity, moments, perimeter
from tilseg.regions.sums import Sums
from tilseg.window import Size


def properties(sums: Sums, shape: Size) -> dict[str, NDArray[Any]]:
    """One column a property, one row a region, in the order of `sums`.

    class, area (pixels), bbox-0..3, euler_number are int64; touches_edge (of the mask of
    `shape`) is bool; all others float64, lengths in pixels. Band columns are there when an
    image was given, `area_world` when pixel areas were, hull columns with `hull`.
    """
    area, box = sums.moments[:, 0], sums.bbox
    height, width = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    float_area = area.astype(np.float64)
    columns: dict[str, NDArray[Any]] = {
        "class": sums.classes,
        "area": area.astype(np.int64),
        **{f"bbox-{side}": np.ascontiguousarray(box[:, side]) for side in range(4)},
        # One rounding, of the quotient of exact sums: as the mean of all coordinates.
        "centroid-0": _quotient(sums.moments[:, 1] + area * box[:, 0], area),
        "centroid-1": _quotient(sums.moments[:, 2] + area * box[:, 1], area),
        **moments.ellipse(sums.moments, np.maximum(height, width)),
        # A dot product a row: a matrix product rounds differently, by where a row stands.
        "perimeter": np.vecdot(sums.pixels.astype(np.float64), perimeter.PIXEL_WEIGHTS),
        "perimeter_crofton": np.vecdot(sums.windows.astype(np.float64), perimeter.CROFTON),
        "euler_number": sums.windows @ perimeter.EULER,
        "equivalent_diameter_area": np.sqrt(4 * float_area / np.pi),
        "extent": float_area / (height * width),
        "touches_edge": (box[:, :2].min(axis=1) == 0)
        | (box[:, 2] == shape.rows)
        | (box[:, 3] == shape.cols),
    }
    columns |= intensity.statistics(area, sums.bands, sums.extrema)
    if sums.world.shape[1]:
        columns["area_world"] = np.ascontiguousarray(sums.world[:, 0])
    if sums.hull is not None:
        convex, feret = hull.measure_hulls(sums.hull, len(sums))
        columns["area_convex"], columns["solidity"] = convex, float_area / convex
        columns["feret_diameter_max"] = feret
    return columns


def _quotient(total: NDArray[Any], count: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(total / count, dtype=np.float64)
