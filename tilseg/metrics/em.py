"""Adapted Rand error, V-Rand, V-Info and variation of information of two partitions into objects.

Rand error and variation of information are those of `skimage.metrics` on the label images of
both maps, over the pixels that have a class in both. Arganda-Carreras et al., "Crowdsourcing
the creation of image segmentation algorithms for connectomics", Front. Neuroanat. 9:142, 2015
(V-Rand and V-Info, both with equal weights of split and merge); Meila, "Comparing clusterings - an information based distance", J. Multivar. Anal. 98, 2007.
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
    them are in one object. v_info: 2 I / (H(prediction) + H(truth)) over the same pixels, with the
    entropies H of the objects' sizes and the information I that they share; None where both
    entropies are 0. split, merge: conditional entropies in bits, H(prediction | truth),
    which cutting objects apart raises, and H(truth | prediction), which melting them together
    raises; background counts as one object.
    """

    adapted_rand_error: float | None
    v_info: float | None
    split: float
    merge: float

    @property
    def v_rand(self) -> float | None:
        """Harmonic mean of the Rand split and merge scores."""
        return None if self.adapted_rand_error is None else 1 - self.adapted_rand_error

    @property
    def variation_of_information(self) -> float:
        return self.split + self.merge


def score_partition(overlaps: Overlaps) -> PartitionScore:
    """Sums of whole numbers are exact and those of floats correctly rounded, so the score is
    the same to the last bit in whatever order the pixels were counted."""
    merge = _entropy(overlaps.pixels, overlaps.predicted)
    split = _entropy(overlaps.pixels, overlaps.truth)
    return PartitionScore(_rand_error(overlaps), _v_info(overlaps), split, merge)


def _v_info(overlaps: Overlaps) -> float | None:
    inside = overlaps.truth > 0
    cells = overlaps.pixels[inside]
    sets = (overlaps.truth[inside], overlaps.predicted[inside])
    apart = math.fsum(_bits(_by_set(cells, one)) for one in sets)
    return 2 * (apart - _bits(cells)) / apart if apart else None


def _bits(sizes: NDArray[np.int64]) -> float:
    """Entropy of a partition into sets of these sizes."""
    filled = sizes[sizes > 0]
    return _entropy(filled, np.zeros(len(filled), np.int64)) if len(filled) else 0.0


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
