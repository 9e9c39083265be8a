"""Adapted Rand error and variation of information of two partitions into objects.

As `skimage.metrics.adapted_rand_error` and `variation_of_information` on the label images of
both maps, over the pixels that have a class in both. Arganda-Carreras et al., "Crowdsourcing
the creation of image segmentation algorithms for connectomics", Front. Neuroanat. 9:142, 2015;
Meila, "Comparing clusterings - an information based distance", J. Multivar. Anal. 98, 2007.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilseg.metrics.overlap import Overlaps


@dataclass(frozen=True, slots=True)
class PartitionScore:
    """How two partitions of the pixels agree, whatever their classes.

    adapted_rand_error: over the pixels that the truth gives to objects; None where no two of
    them are in one object. split, merge: conditional entropies in bits, H(prediction | truth),
    which cutting objects apart raises, and H(truth | prediction), which melting them together
    raises; background counts as one object.
    """

    adapted_rand_error: float | None
    split: float
    merge: float

    @property
    def variation_of_information(self) -> float:
        return self.split + self.merge


def score_partition(overlaps: Overlaps) -> PartitionScore:
    """Sums of whole numbers are exact and those of floats correctly rounded, so the score is
    the same to the last bit in whatever order the pixels were counted."""
    merge = _entropy(overlaps.pixels, overlaps.predicted)
    split = _entropy(overlaps.pixels, overlaps.truth)
    return PartitionScore(_rand_error(overlaps), split, merge)


def _rand_error(overlaps: Overlaps) -> float | None:
    inside = overlaps.truth > 0
    pixels = overlaps.pixels[inside]
    together = _same_pairs(pixels)
    of_truth = _same_pairs(_by_set(pixels, overlaps.truth[inside]))
    of_predicted = _same_pairs(_by_set(pixels, overlaps.predicted[inside]))
    if of_truth + of_predicted == 0:
        return None
    return 1 - together / (0.5 * of_truth + 0.5 * of_predicted)


def _same_pairs(sizes: NDArray[np.int64]) -> int:
    """Ordered pairs of two pixels in one set; in Python's integers, for squares overflow."""
    return sum(size * (size - 1) for size in sizes.tolist())


def _entropy(pixels: NDArray[np.int64], given: NDArray[np.int64]) -> float:
    """Entropy in bits of the cells within the sets of `given`, each weighted by its size."""
    whole = _by_set(pixels, given)[given]
    total = int(pixels.sum())
    terms = pixels * np.log2(whole / pixels)
    return math.fsum(terms.tolist()) / total


def _by_set(pixels: NDArray[np.int64], given: NDArray[np.int64]) -> NDArray[np.int64]:
    sums = np.zeros(int(given.max(initial=0)) + 1, np.int64)
    np.add.at(sums, given, pixels)
    return sums
