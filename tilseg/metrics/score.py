"""What a comparison of a prediction with the truth finds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.metrics.boundary import BoundaryCounts
from tilseg.metrics.confusion import harmonic, mean, ratio
from tilseg.metrics.em import PartitionScore
from tilseg.metrics.objects import ObjectCounts


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Figures of one class; a ratio is None where it is 0 / 0.

    value, name, color ("#rrggbb"): of the class; "" where none is known. truth, predicted, both: pixels.
    boundary_*: pixels of the outlines, and how many of them are near the other outline.
    objects: None for the background.
    """

    value: int
    name: str
    color: str
    truth: int
    predicted: int
    both: int
    boundary_truth: int
    boundary_truth_near: int
    boundary_predicted: int
    boundary_predicted_near: int
    objects: ObjectCounts | None

    @property
    def accuracy(self) -> float | None:
        """Part of the class's pixels in the truth that were found: its recall."""
        return ratio(self.both, self.truth)

    @property
    def precision(self) -> float | None:
        """Part of the pixels predicted as the class that are it."""
        return ratio(self.both, self.predicted)

    @property
    def iou(self) -> float | None:
        return ratio(self.both, self.truth + self.predicted - self.both)

    @property
    def dice(self) -> float | None:
        return ratio(2 * self.both, self.truth + self.predicted)

    @property
    def boundary_f1(self) -> float | None:
        precision = ratio(self.boundary_predicted_near, self.boundary_predicted)
        return harmonic(precision, ratio(self.boundary_truth_near, self.boundary_truth))


@dataclass(frozen=True, slots=True)
class Score:
    """How a prediction agrees with the truth, over the pixels that have a class in both.

    prediction, truth: what was compared. rows, cols: of the grid.
    classes: those of either, by value. confusion: pixels, one row a class of the truth, one
    column a class of the prediction, in the order of `classes`.
    ignored: pixels where the truth has no class; not_predicted: where only the prediction has
    none. background: value of the class that forms no objects, or None.
    objects: all classes together. partition: the maps as partitions into objects.
    tolerance: of the boundary F1 in pixels; neighbours: 4 or 8, of pixels of one object, or None
    where objects are numbered.
    notes: what should be known of how the maps were read.

    Means are over the classes whose figure is not 0 / 0.
    """

    prediction: str
    truth: str
    rows: int
    cols: int
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    ignored: int
    not_predicted: int
    background: int | None
    objects: ObjectCounts
    partition: PartitionScore
    tolerance: float
    neighbours: int | None
    notes: tuple[str, ...]

    @property
    def pixels(self) -> int:
        """How many were compared."""
        return sum(each.truth for each in self.classes)

    @property
    def pixel_accuracy(self) -> float:
        """Part of the pixels whose class is right."""
        return sum(each.both for each in self.classes) / self.pixels

    @property
    def pixel_error(self) -> float:
        return 1 - self.pixel_accuracy

    @property
    def mean_class_accuracy(self) -> float | None:
        """Mean of the classes' accuracies (recalls): one reading of "MPA"."""
        return mean(each.accuracy for each in self.classes)

    @property
    def mean_precision(self) -> float | None:
        """Mean of the classes' precisions: the other reading of "MPA"."""
        return mean(each.precision for each in self.classes)

    @property
    def mean_iou(self) -> float | None:
        return mean(each.iou for each in self.classes)

    @property
    def frequency_weighted_iou(self) -> float:
        """Sum of the classes' IoUs, each weighted by its part of the truth."""
        return math.fsum(each.truth * (each.iou or 0.0) for each in self.classes) / self.pixels

    @property
    def mean_dice(self) -> float | None:
        return mean(each.dice for each in self.classes)

    @property
    def mean_boundary_f1(self) -> float | None:
        return mean(each.boundary_f1 for each in self.classes)

    @property
    def panoptic_quality(self) -> float | None:
        """Mean of the panoptic qualities of the classes that form objects."""
        counted = (each.objects for each in self.classes)
        return mean(each.panoptic_quality for each in counted if each is not None)

    def to_json(self) -> dict[str, Any]:
        """All figures as plain JSON, the content of evaluation.json; None for 0 / 0."""
        partition = self.partition
        return {
            "prediction": self.prediction,
            "truth": self.truth,
            "width": self.cols,
            "height": self.rows,
            "pixels": self.pixels,
            "ignored": self.ignored,
            "not_predicted": self.not_predicted,
            "background": self.background,
            "pixel_accuracy": self.pixel_accuracy,
            "mean_class_accuracy": self.mean_class_accuracy,
            "mean_precision": self.mean_precision,
            "mean_iou": self.mean_iou,
            "frequency_weighted_iou": self.frequency_weighted_iou,
            "mean_dice": self.mean_dice,
            "boundary": {"f1": self.mean_boundary_f1, "tolerance": self.tolerance},
            "objects": {
                "neighbours": self.neighbours,
                **_objects_json(self.objects),
                "panoptic_quality": self.panoptic_quality,
            },
            "partition": {
                "adapted_rand_error": partition.adapted_rand_error,
                "v_rand": partition.v_rand,
                "v_info": partition.v_info,
                "variation_of_information": partition.variation_of_information,
                "split": partition.split,
                "merge": partition.merge,
                "pixel_error": self.pixel_error,
            },
            "classes": [_class_json(each) for each in self.classes],
            "confusion": [list(row) for row in self.confusion],
            "notes": list(self.notes),
        }


def _class_json(of: ClassScore) -> dict[str, Any]:
    return {
        "value": of.value,
        "name": of.name,
        "truth_pixels": of.truth,
        "predicted_pixels": of.predicted,
        "iou": of.iou,
        "dice": of.dice,
        "accuracy": of.accuracy,
        "precision": of.precision,
        "boundary_f1": of.boundary_f1,
        "objects": None if of.objects is None else _objects_json(of.objects),
    }


def _objects_json(of: ObjectCounts) -> dict[str, Any]:
    return {
        "true_positives": of.true_positives,
        "false_positives": of.false_positives,
        "false_negatives": of.false_negatives,
        "precision": of.precision,
        "recall": of.recall,
        "f1": of.f1,
        "segmentation_quality": of.segmentation_quality,
        "panoptic_quality": of.panoptic_quality,
        "aji": of.aji,
    }


def class_scores(
    values: tuple[int, ...],
    names: dict[int, str],
    colors: dict[int, str],
    confusion: NDArray[np.int64],
    boundaries: BoundaryCounts,
    objects: list[ObjectCounts | None],
) -> tuple[ClassScore, ...]:
    """One score a class, from counts by code."""
    return tuple(
        ClassScore(
            value=value,
            name=names.get(value, ""),
            color=colors.get(value, ""),
            truth=int(confusion[code].sum()),
            predicted=int(confusion[:, code].sum()),
            both=int(confusion[code, code]),
            boundary_truth=int(boundaries.truth[code]),
            boundary_truth_near=int(boundaries.truth_near[code]),
            boundary_predicted=int(boundaries.predicted[code]),
            boundary_predicted_near=int(boundaries.predicted_near[code]),
            objects=objects[code],
        )
        for code, value in enumerate(values)
    )
