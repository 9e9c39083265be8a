"""The pixels of one block on their way to the network, and what becomes of its answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.model import Prediction
from tilseg.nodata import NODATA
from tilseg.plan import Plan, Tile
from tilseg.where.chosen import Wanted
from tilseg.window import Window


@dataclass(frozen=True, slots=True)
class Piece:
    """Pixels of `window` of the mirrored image, for `tiles`; where `valid`, or everywhere."""

    window: Window
    tiles: tuple[Tile, ...]
    pixels: NDArray[Any]
    valid: NDArray[np.bool_] | None

    def slices(self, window: Window) -> tuple[slice, slice]:
        return window.relative_to(self.window).slices


@dataclass(frozen=True, slots=True)
class Answer:
    """Classes of a block (rows, cols), and their probabilities (rows, cols, classes) or None.

    Where there is no data or no answer: nodata, and 0 for every class. Outside tissue the
    background is certain.
    """

    labels: NDArray[np.uint8]
    probabilities: NDArray[np.uint8] | None

    @classmethod
    def none(cls, window: Window, classes: int, plan: Plan) -> Answer:
        probabilities = np.zeros((*window.size, classes), np.uint8) if plan.probabilities else None
        return cls(np.full(window.size, NODATA, np.uint8), probabilities)

    def place(self, tile: Window, block: Window, found: Prediction) -> None:
        """Keep the pixels that `tile` owns."""
        target = tile.relative_to(block).slices
        self.labels[target] = found.labels[0, : tile.rows, : tile.cols]
        if self.probabilities is not None and found.probabilities is not None:
            certain = found.probabilities[0, : tile.rows, : tile.cols]
            self.probabilities[target] = certain

    def leave(self, wanted: Wanted, background: int | None) -> None:
        """Make pixels outside tissue background, and those without data or interest nodata."""
        if wanted.tissue is not None:
            assert background is not None
            self.labels[~wanted.tissue] = background
            if self.probabilities is not None:
                self.probabilities[~wanted.tissue] = 0
                self.probabilities[~wanted.tissue, background] = 255
        if wanted.inside is not None:
            self.labels[~wanted.inside] = NODATA
            if self.probabilities is not None:
                self.probabilities[~wanted.inside] = 0
