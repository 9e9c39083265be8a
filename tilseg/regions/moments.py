"""Exact arithmetic on sums of pixel coordinates and values, and the ellipse that follows.

Sums are int64 arrays while they fit and arrays of Python integers (dtype object) beyond; both
go through the same expressions. Products that would overflow are formed as Python integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Columns of a moment array: pixels, sums of row, column, row^2, row * column, column^2.
MOMENTS = ("n", "r", "c", "rr", "rc", "cc")
_LIMIT = 2.0**62


def run_moments(
    member: NDArray[np.int64],
    count: int,
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    length: NDArray[np.int64],
) -> NDArray[np.int64]:
    """(count, 6) moments of components from runs, which belong to `member`.

    rows, cols, length: (runs,) row, first column and pixels of each run, from the origin that
    the moments are about.
    """
    last = cols + length - 1
    col_sum = (cols + last) * length // 2
    square_sum = _squares(last) - _squares(cols - 1)
    sums = np.zeros((6, count), dtype=np.int64)
    terms = (length, rows * length, col_sum, rows * rows * length, rows * col_sum, square_sum)
    for total, term in zip(sums, terms, strict=True):
        np.add.at(total, member, term)
    return np.ascontiguousarray(sums.T)


def _squares(last: NDArray[np.int64]) -> NDArray[np.int64]:
    """0^2 + 1^2 + ... + last^2."""
    return last * (last + 1) * (2 * last + 1) // 6


def shift(moments: NDArray[Any], rows: NDArray[Any], cols: NDArray[Any]) -> NDArray[Any]:
    """Moments about an origin that lies `rows`, `cols` before the old one: r becomes r + rows."""
    n, r, c, rr, rc, cc = moments.T
    shifted = (
        n,
        r + n * rows,
        c + n * cols,
        rr + (2 * r + n * rows) * rows,
        rc + r * cols + c * rows + n * rows * cols,
        cc + (2 * c + n * cols) * cols,
    )
    return np.stack(shifted, axis=1)


def covariance(
    n: NDArray[Any], a: NDArray[Any], b: NDArray[Any], ab: NDArray[Any], span: NDArray[Any]
) -> NDArray[np.float64]:
    """Mean of ab minus mean of a times mean of b, free of cancellation.

    n: number of values; a, b, ab: their sums; span: bound on |a| and |b| of one value.
    (n ab - a b) / n^2 has an exact numerator, however large.
    """
    if n.dtype == object:
        return np.asarray((n * ab - a * b) / (n * n), dtype=np.float64)
    n_float = n.astype(np.float64)
    result: NDArray[np.float64] = (n * ab - a * b).astype(np.float64) / (n_float * n_float)
    large = np.flatnonzero((n_float * span.astype(np.float64)) ** 2 >= _LIMIT)
    if len(large):
        n, a, b, ab = (values[large].astype(object) for values in (n, a, b, ab))
        result[large] = (n * ab - a * b) / (n * n)
    return result


def ellipse(moments: NDArray[Any], span: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Axes, eccentricity and orientation of the ellipse with the same second moments.

    moments: (n, 6); span: (n,) larger side of the bounding box, at whose corner the moments
    are. Definitions of `skimage.measure.regionprops`: lengths are 4 sqrt(eigenvalue) of the
    covariance; orientation is the angle in radians between the row axis and the major axis.
    """
    n, r, c, rr, rc, cc = moments.T
    row_var = covariance(n, r, r, rr, span)
    col_var = covariance(n, c, c, cc, span)
    both = covariance(n, r, c, rc, span)
    half_difference = (col_var - row_var) / 2
    spread = np.hypot(half_difference, both)
    major = (row_var + col_var) / 2 + spread
    flat = major > 0
    safe = np.where(flat, major, 1.0)
    minor = np.maximum(row_var * col_var - both * both, 0.0) / safe
    orientation = 0.5 * np.arctan2(2 * both, row_var - col_var)
    round_ = row_var == col_var
    # regionprops' choice where both axes make 45 degrees with the image, or there are none.
    orientation[round_] = np.where(both[round_] > 0, np.pi / 4, -np.pi / 4)
    return {
        "axis_major_length": 4 * np.sqrt(major),
        "axis_minor_length": 4 * np.sqrt(minor),
        "eccentricity": np.sqrt(np.minimum(2 * spread / safe, 1.0)),
        "orientation": orientation,
    }
