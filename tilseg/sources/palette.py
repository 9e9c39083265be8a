"""Palette TIFFs: whose numbers stand for colours, or for classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.choice import Choice
from tilseg.errors import InputError, UsageError
from tilseg.sources.tiff_header import COLOR_MAP, Directory


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours by number: (numbers, 3) uint8, red, green and blue."""

    colours: NDArray[np.uint8]
    names = ("red", "green", "blue")
    dtype = np.dtype(np.uint8)

    def expand(self, index: NDArray[Any], bands: tuple[int, ...]) -> NDArray[np.uint8]:
        """Bands of the colours of `index`: (rows, cols, len(bands))."""
        expanded: NDArray[np.uint8] = self.colours[:, list(bands)][index]
        return expanded


def palette_of(path: object, choice: Choice, directory: Directory, *, used: bool) -> Palette | None:
    """The palette to expand; None for an image without one, or to be read as numbers.

    used: whether the image's numbers stand for the colours of its palette.

    Raises InputError E-INPUT-PALETTE where the user has not said which, UsageError E-CHOICE
    for a choice of palette where there is none.
    """
    if not used:
        if choice.palette == "expand":
            raise UsageError("E-CHOICE", path=path, option="palette", value=choice.palette)
        return None
    if choice.palette == "index":
        return None
    if choice.palette is None:
        raise InputError("E-INPUT-PALETTE", path=path)
    colours = directory.numbers(COLOR_MAP)
    if colours is None or len(colours) % 3:
        raise directory.refuse("is a palette image without a palette")
    colours = colours.reshape(3, -1).T
    # 16 bits a colour by the standard; some writers store 8.
    return Palette((colours >> 8 if colours.max() > 255 else colours).astype(np.uint8))
