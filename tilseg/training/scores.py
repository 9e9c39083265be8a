"""Validation over whole images, tile by tile, as a run predicts them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.model import Model
from tilseg.plan import Tile, TileGrid
from tilseg.training.samples import IGNORE, Sample
from tilseg.window import Size

# Output step of a validation tile; the mask does not depend on it.
_TILE = 512


@dataclass(frozen=True, slots=True)
class Scores:
    """Confusion matrices of images: (classes, classes) int64, rows truth, columns predicted.

    group: of each image, in the same order. background: class that is no object, or None.
    """

    confusion: tuple[NDArray[np.int64], ...]
    group: tuple[str, ...]
    background: int | None

    @property
    def dice(self) -> float:
        """Mean Dice of the classes other than background, their pixels pooled over all images;
        classes that neither truth nor prediction has are left out, NaN where none is left.
        """
        return self._foreground(dice_of(sum_of(self.confusion)))

    @property
    def images_dice(self) -> float:
        """The same, taken image by image and averaged over the images that have objects."""
        return _mean(self._foreground(dice_of(each)) for each in self.confusion)

    def summary(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """The scores as plain JSON, for the card, with those of each group apart."""
        overall = self._figures(classes)
        groups = sorted(set(self.group))
        if groups != [""]:
            overall["groups"] = {group: self.of(group)._figures(classes) for group in groups}
        return overall

    def of(self, group: str) -> Scores:
        """The scores of the images of one group."""
        kept = [index for index, own in enumerate(self.group) if own == group]
        confusion = tuple(self.confusion[index] for index in kept)
        return Scores(confusion, (group,) * len(kept), self.background)

    def _figures(self, classes: tuple[str, ...]) -> dict[str, Any]:
        pooled = sum_of(self.confusion)
        each = zip(classes, dice_of(pooled), iou_of(pooled), strict=True)
        return {
            "images": len(self.confusion),
            "dice": _rounded(self.dice),
            "dice_mean_of_images": _rounded(self.images_dice),
            "classes": {n: {"dice": _rounded(d), "iou": _rounded(i)} for n, d, i in each},
        }

    def _foreground(self, values: NDArray[np.float64]) -> float:
        return _mean(value for index, value in enumerate(values) if index != self.background)


def sum_of(confusion: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The confusion matrix of all images as one."""
    total: NDArray[np.int64] = np.sum(list(confusion), axis=0)
    return total


def dice_of(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """2 |truth and predicted| / (|truth| + |predicted|) of each class; NaN where it is 0 / 0."""
    size = confusion.sum(axis=0) + confusion.sum(axis=1)
    return _ratio(2 * np.diagonal(confusion), size)


def iou_of(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """|truth and predicted| / |truth or predicted| of each class; NaN where it is 0 / 0."""
    overlap = np.diagonal(confusion)
    return _ratio(overlap, confusion.sum(axis=0) + confusion.sum(axis=1) - overlap)


def validate(model: Model, samples: Iterable[Sample]) -> Scores:
    """Scores of a model on whole samples; unlabelled pixels do not count."""
    classes = len(model.card.classes)
    confusion, groups = [], []
    for sample in samples:
        found = np.zeros(classes * classes, np.int64)
        for tile in _tiles(model, sample):
            truth = sample.target(tile.write)
            predicted = predict_tile(model, sample, tile)
            labelled = truth != IGNORE
            code = truth[labelled].astype(np.intp) * classes + predicted[labelled]
            found += np.bincount(code, minlength=classes * classes)
        confusion.append(found.reshape(classes, classes))
        groups.append(sample.group)
    return Scores(tuple(confusion), tuple(groups), model.card.background)


def predict_tile(model: Model, sample: Sample, tile: Tile) -> NDArray[np.uint8]:
    """Class values of the tile's write window: (rows, cols) uint8."""
    prediction = model.predict(sample.raw(tile.read)[None], sample.statistics)
    labels: NDArray[np.uint8] = prediction.labels[0, : tile.write.rows, : tile.write.cols]
    return labels


def _tiles(model: Model, sample: Sample) -> Iterable[Tile]:
    field = model.field
    most = max(field.stride, field.step_below(_TILE))
    rows, cols = (min(most, field.step_covering(side)) for side in sample.shape)
    for block in TileGrid(sample.shape, field, Size(rows, cols), Size(1, 1)):
        yield from block.tiles


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    out = np.full(len(whole), np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out


def _mean(values: Iterable[float]) -> float:
    known = [float(value) for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)
