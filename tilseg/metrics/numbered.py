"""Overlaps of objects that both maps number, in touch with others or in pieces as they may be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilseg.metrics.overlap import Overlaps

# Objects of the prediction and of the truth by pixel, (rows, cols) int64 each: 0 for none, -1
# where nothing is known.
Numbers = tuple[NDArray[np.int64], NDArray[np.int64]]


class NumberedOverlaps:
    """Counts overlaps block by block, in any order. Memory holds what each pair of objects of a
    block needs. Every object has the class code 1; objects keep the order of their numbers.
    """

    def __init__(self) -> None:
        self._cells = [np.zeros((3, 0), np.int64)]

    def add(self, predicted: NDArray[np.int64], truth: NDArray[np.int64]) -> None:
        """Take the numbers of one block."""
        pairs = np.stack([predicted.ravel(), truth.ravel()])
        changes = np.flatnonzero(np.diff(pairs, axis=1, prepend=-2).any(axis=0))
        lengths = np.diff(np.append(changes, pairs.shape[1]))
        self._cells.append(_summed(np.vstack([pairs[:, changes], lengths])))

    def finish(self) -> Overlaps:
        """The table of the whole maps, every block of which has been added."""
        predicted, truth, pixels = _summed(np.concatenate(self._cells, axis=1))
        ours, theirs = _dense(predicted), _dense(truth)
        known = (predicted >= 0) & (truth >= 0)
        return Overlaps(
            predicted=ours[known],
            truth=theirs[known],
            pixels=pixels[known],
            predicted_codes=_codes(ours),
            truth_codes=_codes(theirs),
            predicted_ignored=_areas(ours, pixels, ~known),
            truth_ignored=_areas(theirs, pixels, ~known),
        )


def _summed(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """(3, n) rows of prediction, truth and pixels: each pair once, in order of truth."""
    if not cells.shape[1]:
        return cells
    cells = cells[:, np.lexsort((cells[0], cells[1]))]
    starts = np.flatnonzero(np.diff(cells[:2], axis=1, prepend=-2).any(axis=0))
    return np.vstack([cells[:2, starts], np.add.reduceat(cells[2], starts)])


def _dense(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same objects as 1, 2, ...; 0 for none and unknown."""
    found = np.unique(numbers[numbers > 0])
    places = np.searchsorted(found, numbers) + 1
    return np.where(numbers > 0, places, 0)


def _codes(objects: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.append(-1, np.ones(objects.max(initial=0), np.int64))


def _areas(
    objects: NDArray[np.int64], pixels: NDArray[np.int64], chosen: NDArray[np.bool_]
) -> NDArray[np.int64]:
    areas = np.zeros(objects.max(initial=0) + 1, np.int64)
    np.add.at(areas, objects[chosen], pixels[chosen])
    areas[0] = 0
    return areas
