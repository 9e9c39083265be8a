"""Scores of several pairs of maps as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from tilseg.metrics.confusion import mean
from tilseg.metrics.em import PartitionScore
from tilseg.metrics.objects import ObjectCounts
from tilseg.metrics.score import ClassScore, Score

_COUNTS = [field.name for field in fields(ClassScore) if field.type == "int"]


def pooled(scores: Sequence[Score]) -> Score:
    """The score of all pixels, outlines and objects together; that of one pair is its own.

    All scores have the same classes. Partitions into objects can't be pooled: their figures are
    means over the pairs. rows and cols are the sums.
    """
    first, *others = scores
    if not others:
        return first
    classes = [
        _class([each.classes[place] for each in scores]) for place in range(len(first.classes))
    ]
    confusion = np.sum([np.array(each.confusion) for each in scores], axis=0)
    return replace(
        first,
        prediction=f"{len(scores)} predictions",
        truth=f"{len(scores)} truths",
        rows=sum(each.rows for each in scores),
        cols=sum(each.cols for each in scores),
        classes=tuple(classes),
        confusion=tuple(map(tuple, confusion.tolist())),
        ignored=sum(each.ignored for each in scores),
        not_predicted=sum(each.not_predicted for each in scores),
        objects=_objects([each.objects for each in scores]),
        partition=_partition([each.partition for each in scores]),
        notes=tuple(note for each in scores for note in each.notes),
    )


def _class(scores: Sequence[ClassScore]) -> ClassScore:
    counts: dict[str, Any] = {name: sum(getattr(each, name) for each in scores) for name in _COUNTS}
    objects = [each.objects for each in scores if each.objects is not None]
    counts["value"] = scores[0].value
    return replace(scores[0], **counts, objects=_objects(objects) if objects else None)


def _objects(counts: Sequence[ObjectCounts]) -> ObjectCounts:
    names = [field.name for field in fields(ObjectCounts)]
    return ObjectCounts(*(sum(getattr(each, name) for each in counts) for name in names))


def _partition(scores: Sequence[PartitionScore]) -> PartitionScore:
    def of(figure: Callable[[PartitionScore], float | None]) -> float | None:
        return mean(map(figure, scores))

    return PartitionScore(
        adapted_rand_error=of(lambda each: each.adapted_rand_error),
        v_info=of(lambda each: each.v_info),
        split=of(lambda each: each.split) or 0.0,
        merge=of(lambda each: each.merge) or 0.0,
    )
