"""A score in words and figures, for the page and for the terminal."""

from __future__ import annotations

from tilseg.metrics.objects import ObjectCounts
from tilseg.metrics.score import ClassScore, Score

PIXEL_HEADS = ("truth px", "pred. px", "IoU", "Dice", "accuracy", "precision", "boundary F1")
OBJECT_HEADS = ("objects", "found", "made up", "F1", "PQ", "AJI")


def overall(score: Score) -> list[tuple[str, str, str]]:
    """Name, value and meaning of the figures that sum a comparison up."""
    objects, partition = score.objects, score.partition
    return [
        ("pixel accuracy", figure(score.pixel_accuracy), "pixels whose class is right"),
        ("mean class accuracy", figure(score.mean_class_accuracy), "mean recall of the classes"),
        ("mean precision", figure(score.mean_precision), "mean precision of the classes"),
        ("mean IoU", figure(score.mean_iou), "intersection over union"),
        (
            "frequency-weighted IoU",
            figure(score.frequency_weighted_iou),
            "weighted by the classes' parts of the truth",
        ),
        ("mean Dice", figure(score.mean_dice), "F1 of the pixels"),
        (
            "mean boundary F1",
            figure(score.mean_boundary_f1),
            f"outlines within {score.tolerance:g} px",
        ),
        (
            "object F1",
            figure(objects.f1),
            f"IoU above 0.5: precision {figure(objects.precision)}, recall "
            f"{figure(objects.recall)}, of {objects.true_positives + objects.false_negatives:,}",
        ),
        ("panoptic quality", figure(score.panoptic_quality), "mean of the classes"),
        ("AJI", figure(objects.aji), "aggregated Jaccard index of the objects"),
        (
            "adapted Rand error",
            figure(partition.adapted_rand_error),
            "of the objects as a partition; 0 is best",
        ),
        ("V-Info", figure(partition.v_info), f"1 is best; V-Rand {figure(partition.v_rand)}"),
        (
            "variation of information",
            figure(partition.variation_of_information),
            f"bits: split {figure(partition.split)}, merge {figure(partition.merge)}; 0 is best",
        ),
        ("pixel error", figure(score.pixel_error), "pixels whose class is wrong"),
    ]


def label(of: ClassScore) -> str:
    """Value and name of a class."""
    return f"{of.value} {of.name}".strip()


def pixel_cells(of: ClassScore) -> list[str]:
    """The figures of a class's pixels, as `PIXEL_HEADS` names them."""
    figures = (of.iou, of.dice, of.accuracy, of.precision, of.boundary_f1)
    return [f"{of.truth:,}", f"{of.predicted:,}", *map(figure, figures)]


def object_cells(of: ObjectCounts) -> list[str]:
    """The figures of a class's objects, as `OBJECT_HEADS` names them."""
    true = of.true_positives + of.false_negatives
    counts = [f"{count:,}" for count in (true, of.true_positives, of.false_positives)]
    return [*counts, *map(figure, (of.f1, of.panoptic_quality, of.aji))]


def figure(value: float | None) -> str:
    """Four places, or a dash for 0 / 0."""
    return "-" if value is None else f"{value:.4f}"
