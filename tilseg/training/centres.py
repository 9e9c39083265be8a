"""Where patches are centred: anywhere, or on pixels of every class alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tilseg.training.samples import IGNORE, Sample
from tilseg.window import Size

# Pixels of a class in an image that are kept to be centred on, drawn alike from all of them.
_KEPT = 2000


@dataclass(frozen=True, slots=True)
class Centres:
    """Draws a sample and a pixel of it.

    balance: share of the draws in which a class is drawn first, each alike, then one of the
    samples that have it, then a pixel of it; so rare classes are seen. The other draws take any
    pixel of any sample. Images of a group count alike whatever their size: they differ among
    themselves more than the parts of one do. A group counts as the square root of its images, so
    that a rare kind is not drowned by a common one.
    """

    samples: tuple[Sample, ...]
    balance: float = 0.0
    seed: int = 0
    _places: dict[int, dict[int, NDArray[np.int64]]] = field(init=False)
    _weights: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_weights", _weights(self.samples))
        places = _places(self.samples, self.seed) if self.balance else {}
        object.__setattr__(self, "_places", places)

    def draw(self, rng: np.random.Generator) -> tuple[Sample, Size]:
        if self.balance and rng.random() < self.balance:
            return self._draw_of_class(rng)
        sample = self.samples[_choose(self._weights, rng)]
        return sample, Size(*(int(rng.integers(side)) for side in sample.shape))

    def _draw_of_class(self, rng: np.random.Generator) -> tuple[Sample, Size]:
        places = self._places[sorted(self._places)[rng.integers(len(self._places))]]
        numbers = sorted(places)
        number = numbers[_choose(self._weights[numbers], rng)]
        row, col = places[number][rng.integers(len(places[number]))]
        return self.samples[number], Size(int(row), int(col))


def _choose(weights: NDArray[np.float64], rng: np.random.Generator) -> int:
    return int(rng.choice(len(weights), p=weights / weights.sum()))


def _weights(samples: Sequence[Sample]) -> NDArray[np.float64]:
    sizes = Counter(sample.group for sample in samples)
    return np.array([sizes[sample.group] ** -0.5 for sample in samples])


def _places(samples: Sequence[Sample], seed: int) -> dict[int, dict[int, NDArray[np.int64]]]:
    """(n, 2) rows and columns of pixels, by class and by number of the sample that they are in."""
    found: dict[int, dict[int, NDArray[np.int64]]] = {}
    for number, sample in enumerate(samples):
        for value, places in _places_in(sample, np.random.default_rng([seed, number])).items():
            found.setdefault(value, {})[number] = places
    return found


def _places_in(sample: Sample, rng: np.random.Generator) -> dict[int, NDArray[np.int64]]:
    """Those of one sample, by class. Every pixel gets a random key; the least keys are kept."""
    kept: dict[int, tuple[NDArray[np.float64], NDArray[np.int64]]] = {}
    for strip in sample.strips():
        labels = sample.labels(strip)
        for value in np.unique(labels[labels != IGNORE]).tolist():
            places = np.argwhere(labels == value) + np.array([strip.row, strip.col])
            keys = rng.random(len(places))
            if value in kept:
                keys = np.concatenate([kept[value][0], keys])
                places = np.concatenate([kept[value][1], places])
            least = (
                np.sort(np.argpartition(keys, _KEPT)[:_KEPT]) if len(keys) > _KEPT else slice(None)
            )
            kept[value] = keys[least], places[least]
    return {value: places for value, (_, places) in kept.items()}
