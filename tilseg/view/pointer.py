"""Which region a pixel of the mask belongs to, where the number of every pixel is not stored.

The boxes of the table leave a few candidates. If these are not one, the pixels around the smallest
are labelled as the run labelled the mask; what is found there is a region if the table has one of
its box and area. So a cut through the neighbourhood can hide a region, but not make up another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tilseg.instance_rule import Border
from tilseg.instances import find_in_memory
from tilseg.nodata import NODATA
from tilseg.plan import RegionOptions
from tilseg.regions.components import Connectivity
from tilseg.view.regions import Regions
from tilseg.window import Size, Window

# Pixels around a candidate that are labelled with it: its touching neighbours decide about it.
_MARGINS = (16, 128, 512)
_MOST_PIXELS = 2048 * 2048
_MOST_CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class RegionFinder:
    """Finds regions of a mask of `shape`.

    read: class values of a window, (rows, cols). labels: of a window, where they are stored, 0
    for no region. options: how regions were measured, settled.
    """

    regions: Regions
    read: Callable[[Window], NDArray[Any]]
    labels: Callable[[Window], NDArray[Any]] | None
    shape: Size
    options: RegionOptions
    background: int | None

    def at(self, row: int, col: int) -> int | None:
        """The index of the region of a pixel of the mask.

        None where there is none, or where it can't be told: of regions too large to be looked
        at that lie about each other.
        """
        point = Window(row, col, 1, 1)
        if self.labels is not None:
            label = int(self.labels(point)[0, 0])
            return label - 1 if label else None
        value = int(self.read(point)[0, 0])
        if value in (NODATA, self.background):
            return None
        # A pixel of the border class may belong to an object of any other.
        between = isinstance(self.options.rule, Border) and value == self.options.rule.border
        candidates = self.regions.at(row, col, None if between else value)
        if len(candidates) == 1 and self._complete and not between:
            return int(candidates[0])
        return self._looked_up(candidates, point)

    @property
    def _complete(self) -> bool:
        """Whether the table has every region."""
        return not (self.options.min_area or self.options.only)

    def _looked_up(self, candidates: NDArray[np.intp], point: Window) -> int | None:
        box = [self._box(index) for index in candidates]
        smallest = sorted(range(len(box)), key=lambda n: box[n].size.area)[:_MOST_CANDIDATES]
        for margin in _MARGINS:
            for window in (self._grown(box[n], margin) for n in smallest):
                if window.size.area <= _MOST_PIXELS:
                    found, area = self._region(window, point)
                    for index, own in zip(candidates, box, strict=True):
                        if own == found and self.regions.areas[index] == area:
                            return int(index)
        if self.options.rule is not None or not self._complete:
            return None
        part, _ = self._region(self._grown(point, _MARGINS[-1]), point)
        around = [int(n) for n, own in zip(candidates, box, strict=True) if own.contains(part)]
        return around[0] if len(around) == 1 else None

    def _box(self, index: int) -> Window:
        top, left, bottom, right = (int(side[index]) for side in self.regions.boxes)
        return Window(top, left, bottom - top, right - left)

    def _grown(self, box: Window, margin: int) -> Window:
        size = (box.rows + 2 * margin, box.cols + 2 * margin)
        wide = Window(box.row - margin, box.col - margin, *size)
        return wide.intersection(Window.whole(self.shape))

    def _region(self, window: Window, point: Window) -> tuple[Window, int]:
        """Box and area of the region of `point`, as far as it lies in `window`."""
        labels = self.read(window)
        connectivity: Connectivity = 1 if self.options.connectivity == 4 else 2
        row, col = point.row - window.row, point.col - window.col
        if self.options.rule is None:
            parts, _ = ndimage.label(
                labels == labels[row, col], ndimage.generate_binary_structure(2, connectivity)
            )
        else:
            parts = find_in_memory(
                labels,
                self.options.rule,
                nodata=NODATA,
                background=self.background,
                connectivity=connectivity,
            )
        own = (parts == parts[row, col]) & (parts > 0)
        rows, cols = np.flatnonzero(own.any(axis=1)), np.flatnonzero(own.any(axis=0))
        if not len(rows):
            return Window(window.row, window.col, 0, 0), 0
        size = (int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1)
        box = Window(window.row + int(rows[0]), window.col + int(cols[0]), *size)
        return box, int(np.count_nonzero(own))
