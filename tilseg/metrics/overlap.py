"""How many pixels every object of the prediction shares with every object of the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilseg.metrics.codes import NONE
from tilseg.metrics.joining import Joiner, member_at
from tilseg.regions.components import Connectivity, Rules, components
from tilseg.window import Size, Window


@dataclass(frozen=True, slots=True)
class Overlaps:
    """A sparse contingency table, over the pixels that have a class in both maps.

    predicted, truth: (n,) object of each cell, 0 for background; pixels: (n,) how many; cells
    in order of truth, then prediction. Objects are numbered as `skimage.measure.label` does.
    predicted_codes, truth_codes: class code of each object, -1 for 0.
    predicted_ignored, truth_ignored: pixels of each object where the other map, or this one,
    has no class.
    """

    predicted: NDArray[np.int64]
    truth: NDArray[np.int64]
    pixels: NDArray[np.int64]
    predicted_codes: NDArray[np.int64]
    truth_codes: NDArray[np.int64]
    predicted_ignored: NDArray[np.int64]
    truth_ignored: NDArray[np.int64]


class OverlapCounter:
    """Counts overlaps block by block, in raster order.

    background: code of the class that forms no objects, or None.
    """

    def __init__(self, shape: Size, background: int | None, connectivity: Connectivity) -> None:
        self._rules = Rules(NONE, background, connectivity)
        self._predicted = _Map(shape, connectivity)
        self._truth = _Map(shape, connectivity)
        self._cells: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []

    def add(self, window: Window, predicted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Take the codes of one block."""
        ours, theirs = components(predicted, self._rules), components(truth, self._rules)
        hidden = np.pad((predicted == NONE) | (truth == NONE), 1, constant_values=True).ravel()
        turns = np.flatnonzero(hidden[1:] != hidden[:-1]) + 1
        # Between two edges, neither map changes.
        edges = np.unique(np.concatenate([ours.start, ours.stop, theirs.start, theirs.stop, turns]))
        places, lengths = edges[:-1], np.diff(edges)
        p, t = member_at(ours, places), member_at(theirs, places)
        counted = ~hidden[places]
        keys, pixels = _tally(t[counted] * (len(ours) + 1) + p[counted], lengths[counted])
        t_base, p_base = (
            self._truth.joiner.add(window, theirs),
            self._predicted.joiner.add(window, ours),
        )
        truth_ids, predicted_ids = np.divmod(keys, len(ours) + 1)
        self._cells.append((_based(predicted_ids, p_base), _based(truth_ids, t_base), pixels))
        for side, ids, base in ((self._predicted, p, p_base), (self._truth, t, t_base)):
            side.ignore(*_tally(ids[~counted], lengths[~counted]), base)

    def finish(self) -> Overlaps:
        """The table of the whole maps, every block of which has been added."""
        ours, theirs = self._predicted.joiner.finish(), self._truth.joiner.finish()
        predicted, truth, pixels = (
            np.concatenate([np.zeros(0, np.int64), *column])
            for column in zip(*self._cells, strict=True)
        )
        keys, pixels = _tally(
            theirs.number[truth] * len(ours.codes) + ours.number[predicted], pixels
        )
        truth, predicted = np.divmod(keys, len(ours.codes))
        return Overlaps(
            predicted=predicted,
            truth=truth,
            pixels=pixels,
            predicted_codes=ours.codes,
            truth_codes=theirs.codes,
            predicted_ignored=self._predicted.ignored(ours.number, len(ours.codes)),
            truth_ignored=self._truth.ignored(theirs.number, len(theirs.codes)),
        )


class _Map:
    """One of the two maps: its components, and how much of each is ignored."""

    def __init__(self, shape: Size, connectivity: Connectivity) -> None:
        self.joiner = Joiner(shape, connectivity)
        self._ids = [np.zeros(0, np.int64)]
        self._pixels = [np.zeros(0, np.int64)]

    def ignore(self, ids: NDArray[np.int64], pixels: NDArray[np.int64], base: int) -> None:
        self._ids.append(_based(ids, base))
        self._pixels.append(pixels)

    def ignored(self, number: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        found = np.zeros(count, np.int64)
        np.add.at(found, number[np.concatenate(self._ids)], np.concatenate(self._pixels))
        found[0] = 0
        return found


def _based(ids: NDArray[np.int64], base: int) -> NDArray[np.int64]:
    return np.where(ids, ids + base, 0)


def _tally(
    keys: NDArray[np.int64], pixels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct keys, ascending, and the sum of the pixels of each."""
    if not len(keys):
        return keys, pixels
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1))
    return keys[starts], np.add.reduceat(pixels[order], starts)
