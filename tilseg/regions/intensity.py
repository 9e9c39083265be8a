"""Values of an image over regions: sums that add up over blocks without rounding.

8- and 16-bit integers are summed as integers. Wider integers and floats are summed as float64
within a block, with the squares taken about the block's mean, and over blocks with `math.fsum`,
which is correctly rounded and therefore the same in any order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.regions.components import Components
from tilseg.regions.moments import covariance


def is_exact(dtype: np.dtype[Any]) -> bool:
    """Whether values of this type are summed as integers."""
    return dtype.kind in "bui" and dtype.itemsize <= 2


# What is not finite in an image is not finite in its region, and no cause for a warning.
_quietly = np.errstate(invalid="ignore", over="ignore")


@_quietly
def sum_bands(parts: Components, image: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Sums and extrema of each band over each component.

    image: (rows, cols, bands). Returns (components, bands, 2): sum and sum of squares (int64),
    or sum and sum of squares about the component's mean (float64); and (components, bands, 2)
    float64 minimum and maximum.
    Raises InputError E-REGION-IMAGE when image and mask differ in size, E-INPUT-DTYPE for
    complex pixels.
    """
    if image.ndim != 3 or image.shape[:2] != tuple(parts.size):
        raise InputError("E-REGION-IMAGE", image=image.shape, mask=tuple(parts.size))
    if image.dtype.kind not in "buif":
        raise InputError("E-INPUT-DTYPE", path="image", dtype=image.dtype, allowed="real numbers")
    exact, bands = is_exact(image.dtype), image.shape[2]
    sums = np.zeros((len(parts), bands, 2), dtype=np.int64 if exact else np.float64)
    extrema = np.empty((len(parts), bands, 2), dtype=np.float64)
    pixels = image.reshape(-1, bands).take(parts.pixels, axis=0)
    for band in range(bands):
        values = np.ascontiguousarray(pixels[:, band])
        if values.dtype == bool:
            values = values.view(np.uint8)
        sums[:, band] = _sum_exact(parts, values) if exact else _sum(parts, values)
        extrema[:, band] = _extrema(parts, values)
    return sums, extrema


def _sum_exact(parts: Components, values: NDArray[Any]) -> NDArray[np.int64]:
    # The square of a 16-bit value fits 32 bits; reduceat sums those in 64.
    wide = values.astype(np.uint32 if values.dtype.kind == "u" else np.int32)
    sums = np.zeros((2, len(parts)), dtype=np.int64)
    for total, terms in zip(sums, (wide, wide * wide), strict=True):
        np.add.at(total, parts.member, parts.reduce(np.add, terms).astype(np.int64))
    return sums.T


def _sum(parts: Components, values: NDArray[Any]) -> NDArray[np.float64]:
    values, length = values.astype(np.float64), parts.stop - parts.start
    total, squares, count = np.zeros((3, len(parts)))
    np.add.at(total, parts.member, parts.reduce(np.add, values))
    np.add.at(count, parts.member, length.astype(np.float64))
    apart = values - np.repeat((total / count)[parts.member], length)
    np.add.at(squares, parts.member, parts.reduce(np.add, apart * apart))
    return np.stack([total, squares], axis=1)


def _extrema(parts: Components, values: NDArray[Any]) -> NDArray[np.float64]:
    least = np.full(len(parts), np.inf)
    most = np.full(len(parts), -np.inf)
    low, high = (parts.reduce(ufunc, values) for ufunc in (np.minimum, np.maximum))
    np.minimum.at(least, parts.member, low.astype(np.float64))
    np.maximum.at(most, parts.member, high.astype(np.float64))
    return np.stack([least, most], axis=1)


@_quietly
def merge_floats(
    sums: NDArray[np.float64], count: NDArray[np.int64], begin: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sums of float bands over groups of components (the other half of `sum_bands`).

    sums: (parts, bands, 2), sorted by group; count: (parts,) pixels; begin: (groups,) first
    part of each group. Returns (groups, bands, 2).
    """
    stop = np.append(begin[1:], len(sums))
    merged = np.empty((len(begin), *sums.shape[1:]))
    for group, (first, last) in enumerate(zip(begin.tolist(), stop.tolist(), strict=True)):
        n = count[first:last]
        for band in range(sums.shape[1]):
            total, squares = sums[first:last, band].T
            whole = exact_sum(total)
            # Chan, Golub and LeVeque 1979: squares about the common mean.
            aside = n * (total / n - whole / n.sum()) ** 2
            merged[group, band] = whole, exact_sum(np.concatenate([squares, aside]))
    return merged


def exact_sum(values: NDArray[np.float64]) -> float:
    """The correctly rounded sum, the same in any order; not finite where `values` is not."""
    return math.fsum(values) if np.isfinite(values).all() else float(values.sum())


def statistics(
    count: NDArray[Any], sums: NDArray[Any], extrema: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """intensity_mean, _min, _max and _std of every band, named `intensity_mean-0` and so on."""
    mean: list[NDArray[np.float64]] = []
    std: list[NDArray[np.float64]] = []
    for band in range(sums.shape[1]):
        total, squares = sums[:, band].T
        mean.append(np.asarray(total / count, dtype=np.float64))
        if sums.dtype == np.float64:
            variance = squares / count.astype(np.float64)
        else:
            span = np.abs(extrema[:, band]).max(axis=1)
            variance = covariance(count, total, total, squares, span)
        std.append(np.sqrt(variance))
    least, most = (list(np.ascontiguousarray(extrema[:, :, i].T)) for i in (0, 1))
    named = {"mean": mean, "min": least, "max": most, "std": std}
    return {
        f"intensity_{name}-{band}": values
        for name, columns in named.items()
        for band, values in enumerate(columns)
    }
