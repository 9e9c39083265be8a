"""Places of a result at full resolution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.look import GROUND, Look
from tilseg.nodata import valid_pixels
from tilseg.report.layers import Layers, Painter
from tilseg.report.places import Place
from tilseg.source import Source
from tilseg.window import Window

_IMAGE_BYTES, _MASK_BYTES = 36_000, 16_000
# Dots of an outline's picture along a side, or a little more.
_FINE = 512


@dataclass(frozen=True, slots=True)
class Closeup:
    """A place and its pictures. read: whether all of the image could be."""

    place: Place
    layers: Layers
    read: bool


def close_up(
    place: Place,
    source: Source,
    level: int,
    look: Look,
    values: Callable[[Window], NDArray[Any]],
    numbers: Callable[[Window], NDArray[Any]],
    painter: Painter,
    without: Sequence[Window],
) -> Closeup:
    """A place seen in full. values: classes of a window of the mask's grid, (rows, cols).
    numbers: of its regions. without: windows of the image that are not to be read."""
    window = place.window
    scale = -(-_FINE // max(window.size))
    if any(window.intersection(other).size.area for other in without):
        colors, read = _nothing(window), False
    else:
        colors, read = _colors(source, window, level, look)
    layers = painter.layers(
        colors,
        values(window).astype(np.uint8),
        numbers(window),
        scale=scale,
        most=(_IMAGE_BYTES, _MASK_BYTES),
    )
    return Closeup(place, layers, read)


def _colors(
    source: Source, window: Window, level: int, look: Look
) -> tuple[NDArray[np.uint8], bool]:
    try:
        pixels = source.read(window, level, look.bands)
        valid = valid_pixels(pixels, source.nodata, source.mask(window, level))
    except InputError:
        # The run has left this part out, or would not be here; the page says so.
        return _nothing(window), False
    return look.paint(pixels, valid), True


def _nothing(window: Window) -> NDArray[np.uint8]:
    return np.full((*window.size, 3), GROUND, np.uint8)
