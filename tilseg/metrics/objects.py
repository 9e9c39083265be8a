"""Objects found, missed and made up, from the overlaps of two maps.

Panoptic quality after Kirillov, He, Girshick, Rother and Dollar, "Panoptic Segmentation", CVPR
2019; aggregated Jaccard index (AJI) after Kumar et al., "A Dataset and a Technique for
Generalized Nuclear Segmentation for Computational Pathology", IEEE TMI 36(7), 2017.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilseg.metrics.confusion import harmonic, ratio
from tilseg.metrics.overlap import Overlaps


@dataclass(frozen=True, slots=True)
class ObjectCounts:
    """What became of objects, of one class or of all.

    true_positives: pairs of equal class with an IoU above 0.5, of which an object can have one
    at most. matched_iou: the sum of their IoUs. shared, joined: pixels above and below the
    fraction line of the AJI.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    matched_iou: float
    shared: int
    joined: int

    @property
    def precision(self) -> float | None:
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float | None:
        return ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float | None:
        """The recognition quality of Kirillov et al."""
        return harmonic(self.precision, self.recall)

    @property
    def segmentation_quality(self) -> float | None:
        return ratio(self.matched_iou, self.true_positives)

    @property
    def panoptic_quality(self) -> float | None:
        missed = (self.false_positives + self.false_negatives) / 2
        return ratio(self.matched_iou, self.true_positives + missed)

    @property
    def aji(self) -> float | None:
        return ratio(self.shared, self.joined)


def count_objects(overlaps: Overlaps, classes: int) -> tuple[list[ObjectCounts], ObjectCounts]:
    """Counts for each class code below `classes`, and for all classes together.

    Only objects of one class can match. Ignored pixels are no part of any object; an object
    without a match counts for nothing when more than half of it is ignored (Kirillov et al.).
    For the AJI an object of the truth takes the predicted one with the highest IoU, of equals
    the first in raster order.
    """
    pairs = _Pairs.of(overlaps)
    parts = [
        pairs.counts(
            pairs.codes == code, overlaps.predicted_codes == code, overlaps.truth_codes == code
        )
        for code in range(classes)
    ]
    everything = pairs.counts(
        pairs.codes >= 0, overlaps.predicted_codes >= 0, overlaps.truth_codes >= 0
    )
    return parts, everything


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Overlapping objects of equal class, one entry a pair.

    Then by object, 0 for background: its pixels, and whether it counts without a match.
    """

    predicted: NDArray[np.int64]
    truth: NDArray[np.int64]
    codes: NDArray[np.int64]
    shared: NDArray[np.int64]
    joined: NDArray[np.int64]
    predicted_area: NDArray[np.int64]
    truth_area: NDArray[np.int64]
    predicted_counts: NDArray[np.bool_]
    truth_counts: NDArray[np.bool_]

    @classmethod
    def of(cls, overlaps: Overlaps) -> _Pairs:
        predicted_area = _areas(overlaps.predicted, overlaps.pixels, overlaps.predicted_codes)
        truth_area = _areas(overlaps.truth, overlaps.pixels, overlaps.truth_codes)
        codes = overlaps.predicted_codes[overlaps.predicted]
        same = (codes == overlaps.truth_codes[overlaps.truth]) & (codes >= 0)
        p, t, shared = overlaps.predicted[same], overlaps.truth[same], overlaps.pixels[same]
        return cls(
            predicted=p,
            truth=t,
            codes=codes[same],
            shared=shared,
            joined=predicted_area[p] + truth_area[t] - shared,
            predicted_area=predicted_area,
            truth_area=truth_area,
            predicted_counts=overlaps.predicted_ignored <= predicted_area,
            truth_counts=overlaps.truth_ignored <= truth_area,
        )

    def counts(
        self,
        chosen: NDArray[np.bool_],
        of_predicted: NDArray[np.bool_],
        of_truth: NDArray[np.bool_],
    ) -> ObjectCounts:
        """Counts of the chosen pairs and the chosen objects."""
        matched = chosen & (2 * self.shared > self.joined)
        lone_predicted = of_predicted & self.predicted_counts & (self.predicted_area > 0)
        lone_truth = of_truth & self.truth_counts & (self.truth_area > 0)
        best = self._best(np.flatnonzero(chosen))
        unused, unmet = lone_predicted.copy(), lone_truth.copy()
        unused[self.predicted[best]] = False
        unmet[self.truth[best]] = False
        lone_predicted[self.predicted[matched]] = False
        lone_truth[self.truth[matched]] = False
        joined = [self.joined[best], self.predicted_area[unused], self.truth_area[unmet]]
        return ObjectCounts(
            true_positives=int(np.count_nonzero(matched)),
            false_positives=int(np.count_nonzero(lone_predicted)),
            false_negatives=int(np.count_nonzero(lone_truth)),
            matched_iou=math.fsum((self.shared[matched] / self.joined[matched]).tolist()),
            shared=int(self.shared[best].sum()),
            joined=sum(int(pixels.sum()) for pixels in joined),
        )

    def _best(self, among: NDArray[np.intp]) -> NDArray[np.intp]:
        """Of each object of the truth, the pair with the highest IoU."""
        iou = self.shared[among] / self.joined[among]
        order = among[np.lexsort((self.predicted[among], -iou, self.truth[among]))]
        first = np.diff(self.truth[order], prepend=-1) != 0
        best: NDArray[np.intp] = order[first]
        return best


def _areas(
    ids: NDArray[np.int64], pixels: NDArray[np.int64], codes: NDArray[np.int64]
) -> NDArray[np.int64]:
    area = np.zeros(len(codes), np.int64)
    np.add.at(area, ids, pixels)
    return area
