"""Before, after and what changed, reduced to pictures while the maps are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.changes.change import Change
from tilseg.changes.pair import NONE, Pair
from tilseg.pages.encoding import png
from tilseg.sinks.ngff import rgb
from tilseg.window import Window

_LONGEST = 1024
_STILL, _NODATA = "#e9ecef", "#adb5bd"
# A single changed pixel of a cell of a thousand is still seen.
_FAINTEST = 0.45


class Overview:
    """Pictures in cells of `factor` x `factor` pixels.

    Before and after show the pixel in the middle of each cell; the change is the mean colour of
    all changed pixels of a cell, over grey, as strong as their part of it.
    """

    def __init__(self, pair: Pair, found: Change) -> None:
        self.factor = -(-max(pair.shape) // _LONGEST)
        cells = [-(-side // self.factor) for side in pair.shape]
        self._middles = [
            np.minimum(np.arange(count) * self.factor + self.factor // 2, side - 1)
            for count, side in zip(cells, pair.shape, strict=True)
        ]
        self._codes = np.full((2, *cells), NONE, np.uint8)
        self._changed = np.zeros((*cells, 4))
        self._classes = _colors([each.color for each in pair.classes], 256)
        kinds = np.iinfo(found.dtype).max + 1
        colors = _colors([each.color for each in found.mask_classes], kinds)
        # With a one, to count them; what is unchanged or has no class adds nothing.
        self._table = np.concatenate([colors, np.ones((kinds, 1), np.uint8)], axis=1)
        self._table[[0, -1]] = 0

    def add(self, window: Window, codes: NDArray[np.uint8], values: NDArray[Any]) -> None:
        """Take codes (2, rows, cols) and change values of any window; each pixel once in all."""
        rows = _inside(self._middles[0], window.row, window.row_stop)
        cols = _inside(self._middles[1], window.col, window.col_stop)
        there = np.ix_(self._middles[0][rows] - window.row, self._middles[1][cols] - window.col)
        for own, new in zip(self._codes, codes, strict=True):
            own[np.ix_(rows, cols)] = new[there]
        if np.take(self._table[:, 3], values).any():
            self._add_changed(window, values)

    def _add_changed(self, window: Window, values: NDArray[Any]) -> None:
        sums, place = np.take(self._table, values, axis=0), []
        sides = (window.row, window.row_stop), (window.col, window.col_stop)
        for axis, (start, stop) in enumerate(sides):
            cells = np.arange(start, stop) // self.factor
            firsts = np.flatnonzero(np.diff(cells, prepend=-1))
            sums = np.add.reduceat(sums, firsts, axis=axis, dtype=np.int64)
            place.append(slice(cells[0], cells[-1] + 1))
        self._changed[tuple(place)] += sums

    def pictures(self) -> dict[str, bytes]:
        """PNG files: before, after and change."""
        before, after = (png(self._classes[codes]) for codes in self._codes)
        return {"before": before, "after": after, "change": png(self._painted())}

    def _painted(self) -> NDArray[np.uint8]:
        hidden = (self._codes == NONE).any(axis=0)
        still = np.where(hidden[..., np.newaxis], rgb(_NODATA), rgb(_STILL))
        count = self._changed[..., 3:]
        color = self._changed[..., :3] / np.maximum(count, 1)
        part = np.where(count > 0, np.maximum(count / self.factor**2, _FAINTEST), 0)
        return np.asarray(np.rint(still * (1 - part) + color * part), np.uint8)


def _inside(middles: NDArray[np.intp], start: int, stop: int) -> NDArray[np.intp]:
    return np.flatnonzero((middles >= start) & (middles < stop))


def _colors(colors: Sequence[str], count: int) -> NDArray[np.uint8]:
    """(count, 3) colours by value; that of nodata for those without one."""
    table = np.full((count, 3), rgb(_NODATA), np.uint8)
    table[: len(colors)] = [rgb(color) for color in colors]
    return table
