"""How pixels of any kind become colours on a screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.nodata import valid_pixels
from tilseg.source import Source
from tilseg.window import Window

# Where an image has no data, and around it.
GROUND = (233, 236, 239)

_RGB = ("red", "green", "blue")
_PERCENTILES = (2, 98)
# A lattice of windows that is read to find out how bright an image is.
_SAMPLES, _SIDE = 5, 64


@dataclass(frozen=True, slots=True)
class Look:
    """Which bands of an image are shown, and which of their values are black and white.

    bands: one, for grey, or three, 0-based. low, high: one for each of them.
    """

    bands: tuple[int, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def paint(self, pixels: NDArray[Any], valid: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
        """(rows, cols, len(bands)) as (rows, cols, 3) colours; `GROUND` where not `valid`."""
        if pixels.dtype != np.uint8 or (set(self.low), set(self.high)) != ({0.0}, {255.0}):
            low, high = np.array(self.low, np.float32), np.array(self.high, np.float32)
            part = (pixels.astype(np.float32) - low) / np.maximum(high - low, 1e-12)
            pixels = np.rint(255 * np.clip(np.nan_to_num(part), 0, 1)).astype(np.uint8)
        colors = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        if valid is not None:
            colors = np.where(valid[..., None], colors, np.array(GROUND, np.uint8))
        return np.ascontiguousarray(colors)


def choose_look(image: Source, bands: Sequence[int]) -> Look:
    """The natural colours of an image if its bands are named, else the first of `bands`.

    Bytes are shown as they are; of other pixels the darkest and brightest 2 % of a sample are
    black and white, each band by itself.
    """
    shown = _shown(image, bands)
    if image.dtype == np.uint8:
        return Look(shown, (0.0,) * len(shown), (255.0,) * len(shown))
    sample = _sample(image, shown)
    if not len(sample):
        return Look(shown, (0.0,) * len(shown), (1.0,) * len(shown))
    low, high = np.percentile(sample, _PERCENTILES, axis=0)
    return Look(shown, tuple(map(float, low)), tuple(map(float, high)))


def _shown(image: Source, bands: Sequence[int]) -> tuple[int, ...]:
    names = [name.lower() for name in image.band_names]
    if all(name in names for name in _RGB):
        return tuple(map(names.index, _RGB))
    return tuple(bands[:3]) if len(bands) >= 3 else (bands[0],)


def _sample(image: Source, bands: tuple[int, ...]) -> NDArray[np.float64]:
    """(pixels, bands) of valid pixels from windows all over the coarsest level."""
    level = len(image.levels) - 1
    size = image.levels[level].size
    found = [np.zeros((0, len(bands)))]
    for index in np.ndindex(_SAMPLES, _SAMPLES):
        row, col = (
            max(0, (2 * step + 1) * side // (2 * _SAMPLES) - _SIDE // 2)
            for step, side in zip(index, size, strict=True)
        )
        window = Window(row, col, _SIDE, _SIDE).intersection(Window.whole(size))
        try:
            pixels = image.read(window, level, bands)
            valid = valid_pixels(pixels, image.nodata, image.mask(window, level))
        except InputError:
            # A damaged part is no part of the sample.
            continue
        found.append((pixels.reshape(-1, len(bands)) if valid is None else pixels[valid]) * 1.0)
    return np.concatenate(found)
