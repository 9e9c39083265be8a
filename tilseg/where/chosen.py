"""What a selection says of every pixel of a plan's grid, by windows and in flat memory.

It is decided pixel by pixel on the grid, so it is the same for any tiles: pixel (r, c) of R x C
has the tissue mask's value at the place of its centre, and is in the region of interest where a
polygon holds its centre.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import shapely
from numpy.typing import NDArray

from tilseg.plan import TileGrid
from tilseg.selection import EVERYTHING, Selection
from tilseg.vector.burning import Burner
from tilseg.window import Size, Window

# Why a block is not computed: it lies outside the region of interest, or shows no tissue.
Reason = Literal["roi", "tissue"]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of a window: `inside`, where there are data in the region of interest, and `tissue`.

    Both (rows, cols) bool, or None where all of it is.
    """

    window: Window
    inside: NDArray[np.bool_] | None
    tissue: NDArray[np.bool_] | None

    def some(self, window: Window) -> bool:
        """Whether any pixel of a part of it is wanted."""
        masks = [mask for mask in (self.inside, self.tissue) if mask is not None]
        if not masks:
            return True
        part = window.relative_to(self.window).slices
        return bool(np.logical_and.reduce([mask[part] for mask in masks]).any())


class Chosen:
    """A selection on a grid of `shape`; its methods are thread-safe."""

    def __init__(self, selection: Selection, shape: Size) -> None:
        self._shape = shape
        self._tissue = None if selection.tissue is None else selection.tissue.pixels
        self._burner = None if selection.roi is None else _burner(selection.roi.geometry)

    def wanted(self, window: Window, data: NDArray[np.bool_] | None) -> Wanted:
        """What the selection and `data`, (rows, cols) or None for all, leave of a window."""
        interest = self._interest(window)
        inside = interest if data is None else data if interest is None else data & interest
        return Wanted(window, inside, self._tissue_in(window))

    def _tissue_in(self, window: Window) -> NDArray[np.bool_] | None:
        if self._tissue is None:
            return None
        rows, cols = self._places(window)
        found: NDArray[np.bool_] = self._tissue[np.ix_(rows, cols)]
        return None if found.all() else found

    def _interest(self, window: Window) -> NDArray[np.bool_] | None:
        if self._burner is None:
            return None
        found = self._burner.read(window) > 0
        return None if found.all() else found

    def reason_to_skip(self, window: Window) -> Reason | None:
        """Why no pixel of the window needs the network; None where one may.

        "roi" where all of it is outside, else "tissue" where what is inside shows none.
        """
        if self._burner is not None and not self._burner.meets(window):
            return "roi"
        if self._tissue is not None:
            rows, cols = (np.unique(places) for places in self._places(window))
            if not self._tissue[np.ix_(rows, cols)].any():
                return "tissue"
        if self._burner is None or self._burner.covers(window):
            return None
        wanted = self.wanted(window, None)
        if wanted.some(window):
            return None
        return "roi" if wanted.inside is not None and not wanted.inside.any() else "tissue"

    def _places(self, window: Window) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the tissue mask at the centres of the window's pixels."""
        assert self._tissue is not None
        starts, stops = (window.row, window.col), (window.row_stop, window.col_stop)
        rows, cols = (
            (2 * np.arange(start, stop) + 1) * cells // (2 * side)
            for start, stop, cells, side in zip(
                starts, stops, self._tissue.shape, self._shape, strict=True
            )
        )
        return rows, cols


def _burner(wkb: bytes) -> Burner:
    polygons = shapely.get_parts(shapely.from_wkb(wkb))
    return Burner(polygons, np.ones(len(polygons), np.uint16))


def skipped_blocks(selection: Selection, grid: TileGrid) -> dict[int, Reason]:
    """Why a block is skipped, by the index of each block that is."""
    if selection == EVERYTHING:
        return {}
    chosen = Chosen(selection, grid.shape)
    reasons = ((index, chosen.reason_to_skip(grid.window_at(index))) for index in range(len(grid)))
    return {index: reason for index, reason in reasons if reason is not None}
