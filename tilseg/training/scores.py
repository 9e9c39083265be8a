"""Validation over whole images: predicted tile by tile as a run does, scored as `evaluate` does."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.card import Card
from tilseg.durable import writing
from tilseg.georef import Georef
from tilseg.metrics.codes import coded_pair
from tilseg.metrics.compare import compare
from tilseg.metrics.confusion import mean
from tilseg.metrics.pooled import pooled
from tilseg.metrics.score import Score
from tilseg.model import Model
from tilseg.nodata import NODATA
from tilseg.plan import Tile, TileGrid
from tilseg.training.samples import IGNORE, Sample
from tilseg.truth.class_map import IGNORED
from tilseg.window import Size, Window

# Output step of a validation tile; the mask does not depend on it.
_TILE = 512

Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Scores:
    """What `tilseg evaluate` says of each image, and of which group it is."""

    images: tuple[Score, ...]
    group: tuple[str, ...]

    @property
    def all(self) -> Score:
        """All images together."""
        return pooled(self.images)

    @property
    def dice(self) -> float:
        """Mean Dice of the classes other than background, their pixels pooled over all images;
        classes that neither truth nor prediction has are left out, NaN where none is left. What
        is best is what has the most of it.
        """
        return _number(_foreground(self.all))

    @property
    def images_dice(self) -> float:
        """The same, taken image by image and averaged over the images that have objects."""
        return _number(mean(map(_foreground, self.images)))

    def summary(self) -> dict[str, Any]:
        """The scores as plain JSON, for the card, with those of each group apart."""
        overall = self._figures()
        groups = sorted(set(self.group))
        if groups != [""]:
            overall["groups"] = {group: self.of(group)._figures() for group in groups}
        return overall

    def of(self, group: str) -> Scores:
        """The scores of the images of one group."""
        kept = [index for index, own in enumerate(self.group) if own == group]
        return Scores(tuple(self.images[index] for index in kept), (group,) * len(kept))

    def _figures(self) -> dict[str, Any]:
        score = self.all
        figures = {
            "dice": self.dice,
            "dice_mean_of_images": self.images_dice,
            "pixel_accuracy": score.pixel_accuracy,
            "mean_iou": score.mean_iou,
            "mean_dice": score.mean_dice,
            "boundary_f1": score.mean_boundary_f1,
            "object_f1": score.objects.f1,
            "panoptic_quality": score.panoptic_quality,
            "aji": score.objects.aji,
        }
        return {
            "images": len(self.images),
            **{name: _rounded(value) for name, value in figures.items()},
            "classes": {
                each.name: {"dice": _rounded(each.dice), "iou": _rounded(each.iou)}
                for each in score.classes
            },
        }


def _foreground(score: Score) -> float | None:
    return mean(each.dice for each in score.classes if each.value != score.background)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 4)


def validate(
    model: Model,
    samples: Iterable[Sample],
    look: Callable[[Sample, Labels], None] = lambda *_: None,
) -> Scores:
    """Scores of a model on whole samples, as `tilseg run` and then `tilseg evaluate` give them.

    look: is shown each sample with its (rows, cols) class values. They lie in a file, so that
    memory does not grow with the sample. Raises OutputError E-OUTPUT-WRITE where it has no room.
    """
    scores, groups = [], []
    for sample in samples:
        with _on_disk(sample.shape) as predicted:
            for tile in _tiles(model, sample):
                predicted[tile.write.slices] = predict_tile(model, sample, tile)
            scores.append(_compared(model.card, sample, predicted))
            groups.append(sample.group)
            look(sample, predicted)
    return Scores(tuple(scores), tuple(groups))


@contextmanager
def _on_disk(shape: Size) -> Iterator[Labels]:
    """(rows, cols) uint8 that lie in a file."""
    row = bytes(shape.cols)
    # Unbuffered: what the disk refused must not be refused again on closing.
    with tempfile.TemporaryFile(buffering=0) as file:
        with writing(Path(tempfile.gettempdir())):
            # To find no room for what is already in memory would kill the process.
            for _ in range(shape.rows):
                if file.write(row) != len(row):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        yield np.memmap(file, np.uint8, "r+", shape=tuple(shape))


def predict_tile(model: Model, sample: Sample, tile: Tile) -> Labels:
    """Class values of the tile's write window: (rows, cols) uint8, NODATA where there is no data."""
    prediction = model.predict(sample.raw(tile.read)[None], sample.statistics)
    labels: Labels = prediction.labels[0, : tile.write.rows, : tile.write.cols]
    valid = sample.valid(tile.write)
    return labels if valid is None else np.where(valid, labels, np.uint8(NODATA))


def _tiles(model: Model, sample: Sample) -> Iterable[Tile]:
    field = model.field
    most = max(field.stride, field.step_below(_TILE))
    rows, cols = (min(most, field.step_covering(side)) for side in sample.shape)
    for block in TileGrid(sample.shape, field, Size(rows, cols), Size(1, 1)):
        yield from block.tiles


@dataclass(frozen=True, slots=True)
class _Map:
    """The labels of a sample, or what was predicted of it, as a `ClassMap` of the card's classes."""

    path: str
    shape: Size
    labels: Callable[[Window], Labels]
    values: tuple[int, ...]
    names: dict[int, str]
    colors: dict[int, str]
    background: int | None
    georef: Georef = Georef()  # noqa: RUF009
    notes: tuple[str, ...] = field(default=())

    def read(self, window: Window) -> NDArray[np.uint16]:
        labels = self.labels(window)
        return np.where(labels == IGNORE, np.uint16(IGNORED), labels)

    def close(self) -> None:
        """Nothing is held."""


def _compared(card: Card, sample: Sample, predicted: Labels) -> Score:
    infos = dict(enumerate(card.classes))
    of_card: dict[str, Any] = {
        "values": tuple(infos),
        "names": {value: info.name for value, info in infos.items()},
        "colors": {value: info.color for value, info in infos.items()},
        "background": card.background,
    }
    maps = (
        _Map(sample.name, sample.shape, labels, **of_card)
        for labels in (lambda window: predicted[window.slices], sample.truth)
    )
    return compare(coded_pair(*maps))
