"""Boundary F1: how much of each outline lies near the other's, class by class.

After Csurka, Larlus and Perronnin, "What is a good evaluation measure for semantic
segmentation?", BMVC 2013, with the tolerance in pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilseg.metrics.codes import NONE
from tilseg.window import Window


@dataclass(frozen=True, slots=True)
class BoundaryCounts:
    """(256,) int64 by code: boundary pixels of prediction and truth, and how many of each lie
    within the tolerance of the other's boundary of the same class."""

    predicted: NDArray[np.int64]
    predicted_near: NDArray[np.int64]
    truth: NDArray[np.int64]
    truth_near: NDArray[np.int64]

    def __add__(self, other: BoundaryCounts) -> BoundaryCounts:
        return BoundaryCounts(
            self.predicted + other.predicted,
            self.predicted_near + other.predicted_near,
            self.truth + other.truth,
            self.truth_near + other.truth_near,
        )


def halo_of(tolerance: float) -> int:
    """How far round a window `count_boundaries` must see: a pixel more than the tolerance,
    because a boundary pixel is one by its neighbour."""
    return math.floor(tolerance) + 1


def count_boundaries(
    predicted: NDArray[np.uint8], truth: NDArray[np.uint8], core: Window, tolerance: float
) -> BoundaryCounts:
    """Counts of the boundary pixels of `core`, a window in both arrays of codes.

    A boundary pixel has one of its 4 neighbours in another class; the edge of the image and
    pixels without a class make no boundary. Near is a Euclidean distance between centres of
    at most `tolerance` pixels. The arrays reach `halo_of(tolerance)` pixels beyond the core,
    or to the edge of the image.
    """
    here, there = _boundary(predicted), _boundary(truth)
    offsets = _disk(tolerance)
    own, near = _near(here, there, core, offsets)
    other, other_near = _near(there, here, core, offsets)
    return BoundaryCounts(own, near, other, other_near)


def _boundary(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The codes of boundary pixels, NONE elsewhere."""
    edge = np.zeros(codes.shape, bool)
    has_class = codes != NONE
    for first, second in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        differ = (codes[first] != codes[second]) & has_class[first] & has_class[second]
        edge[first] |= differ
        edge[second] |= differ
    return np.where(edge, codes, np.uint8(NONE))


def _disk(tolerance: float) -> list[tuple[int, int]]:
    """Steps of at most `tolerance` pixels, the shortest first."""
    reach = math.floor(tolerance)
    steps = [
        (down, across)
        for down in range(-reach, reach + 1)
        for across in range(-reach, reach + 1)
        if down**2 + across**2 <= tolerance**2
    ]
    return sorted(steps, key=lambda step: step[0] ** 2 + step[1] ** 2)


def _near(
    boundary: NDArray[np.uint8],
    other: NDArray[np.uint8],
    core: Window,
    offsets: list[tuple[int, int]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """By code: boundary pixels of the core, and those with one of `other` near by."""
    reach = max(down for down, _ in offsets)
    wide = np.pad(other, reach, constant_values=NONE)
    rows, cols = np.nonzero(boundary[core.slices] != NONE)
    codes = boundary[core.slices][rows, cols]
    counts = np.bincount(codes, minlength=256)
    places = (rows + core.row + reach) * wide.shape[1] + cols + core.col + reach
    flat = wide.ravel()
    # Most outlines are near: what is found close by need not be looked for farther off.
    for down, across in offsets:
        missed = flat[places + (down * wide.shape[1] + across)] != codes
        places, codes = places[missed], codes[missed]
    left = np.bincount(codes, minlength=256)
    return counts, counts - left
