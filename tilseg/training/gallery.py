"""The patches of a validation in which most and least pixels are wrong, as pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilseg.card import Card
from tilseg.pages.encoding import png
from tilseg.sink import windows_of
from tilseg.sinks.ngff import rgb
from tilseg.training.samples import IGNORE, Sample
from tilseg.window import Size, Window

Labels = NDArray[np.uint8]

_UNLABELLED = (222, 226, 230)
# Of the pixels of a picture, so many per cent are darker than black or lighter than white.
_BEYOND = 0.5


@dataclass(frozen=True, slots=True)
class Shown:
    """One patch: where it is, the share of its labelled pixels that are wrong, and PNG files."""

    sample: str
    window: Window
    wrong: float
    image: bytes
    truth: bytes
    predicted: bytes


@dataclass(frozen=True, slots=True)
class _Kept:
    wrong: float
    sample: Sample
    window: Window
    predicted: Labels


class Gallery:
    """Keeps the best and the worst `count` patches of `side` x `side` pixels that it is shown.

    Those with fewer than half of their pixels labelled are left out, and of the best those that
    hold a single class: nothing is easier.
    """

    def __init__(self, card: Card, *, count: int = 4, side: int = 160) -> None:
        self._colors = [rgb(info.color) for info in card.classes]
        self._count = count
        self._side = Size(side, side)
        self._best: list[_Kept] = []
        self._worst: list[_Kept] = []

    def add(self, sample: Sample, predicted: Labels) -> None:
        """Look through what was predicted of a sample: (rows, cols) class values."""
        for window in windows_of(sample.shape, self._side):
            truth, found = sample.labels(window), predicted[window.slices]
            labelled = truth != IGNORE
            if 2 * labelled.sum() < truth.size:
                continue
            wrong = float((truth != found)[labelled].mean())
            kept = _Kept(wrong, sample, window, np.array(found))
            self._worst = self._first([*self._worst, kept], -1)
            if len(np.unique(truth[labelled])) > 1:
                self._best = self._first([*self._best, kept], 1)

    def _first(self, patches: list[_Kept], sign: int) -> list[_Kept]:
        order = sorted(patches, key=lambda one: (sign * one.wrong, one.sample.name, one.window))
        return order[: self._count]

    def worst(self) -> list[Shown]:
        return [self._shown(kept) for kept in self._worst]

    def best(self) -> list[Shown]:
        return [self._shown(kept) for kept in self._best]

    def _shown(self, kept: _Kept) -> Shown:
        sample, window = kept.sample, kept.window
        truth = sample.labels(window)
        return Shown(
            sample.name,
            window,
            kept.wrong,
            png(_picture(sample.raw(window))),
            png(self._painted(truth)),
            png(self._painted(kept.predicted)),
        )

    def _painted(self, labels: Labels) -> NDArray[np.uint8]:
        table = np.full((256, 3), _UNLABELLED, np.uint8)
        table[: len(self._colors)] = self._colors
        return table[labels]


def _picture(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    """(rows, cols, 3): the first three bands, or the first; bytes of colour as they are, others
    between their darkest and lightest."""
    shown = pixels[..., :3] if pixels.shape[2] > 2 else np.repeat(pixels[..., :1], 3, axis=2)
    if shown.dtype == np.uint8:
        return np.asarray(shown, np.uint8)
    low, high = np.percentile(shown, (_BEYOND, 100 - _BEYOND))
    light = (shown.astype(np.float32) - low) / max(high - low, 1e-6)
    return np.asarray(np.rint(255 * light.clip(0, 1)), np.uint8)
