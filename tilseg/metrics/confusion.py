"""The confusion matrix, and what is said of it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def joint_counts(predicted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many pixels have each pair of codes: (256, 256), rows truth, columns predicted."""
    pairs = truth.astype(np.uint16) << 8 | predicted
    return np.bincount(pairs.ravel(), minlength=65536).reshape(256, 256)


def ratio(part: float, whole: float) -> float | None:
    """part / whole; None where it is 0 / 0."""
    return part / whole if whole else None


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None, correctly rounded sum; None where all are."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def harmonic(one: float | None, other: float | None) -> float | None:
    """The F1 of two ratios: 0 where only one of them is 0 / 0, None where both are."""
    if one is None and other is None:
        return None
    if not one or not other:
        return 0.0
    return 2 * one * other / (one + other)
