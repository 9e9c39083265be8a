"""Where there is tissue on a slide: found on an overview of it, or read from a file.

Tissue takes light away, so on a light ground the measure is what is missing of the light of bare
glass, in the band where most is; in fluorescence it is what is added to a dark ground. The limit is
Otsu's (1979) of the logarithm of that, for pale and strong stain lie far apart. In doubt it is
tissue: glass that is segmented costs time, tissue that is not is lost.
"""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.filters import threshold_otsu

from tilseg.errors import InputError
from tilseg.nodata import valid_pixels
from tilseg.selection import AUTO, TissueMask
from tilseg.source import Source, open_source
from tilseg.where.overview import overview
from tilseg.window import Size, Window

# Pixels of the overview: of about this size where that is known, so many a side where it is not,
# and never more than so many.
_MICROMETRES = 8.0
_SIDE, _MAX_SIDE = 1024, 2048
# Of 255. Glass differs from itself by up to 8, and pale stain from glass by 20 and more: whatever
# Otsu says of a slide that is all one of them.
_LIMITS = (8.0, 30.0)
# Glass has no colour. The frames that scanners draw are black.
_COLOURLESS, _BLACK = 30.0, 25.0
# In pixels of the overview: a blur against noise, specks that are dust, holes that are tissue
# all the same, and a margin that takes in pale borders.
_BLUR, _SPECK, _HOLE, _MARGIN = 1.0, 64, 256, 2
_RIM = 4
# A mask from a file is kept whole, by every worker.
_MAX_CELLS = 4096 * 4096


def find_tissue(source: Source, bands: tuple[int, ...], level: int = 0) -> TissueMask:
    """The tissue of one level of an image, from an overview of its `bands` (0-based).

    What can't be read counts as tissue, so that whoever computes it comes upon it. Raises
    InputError E-TISSUE-NONE.
    """
    at = overview(source, bands, level, _overview_shape(source, level))
    found = _cleaned(_above(_signal(_smooth(at.pixels), source.dtype))) | at.unread
    if not found.any():
        raise InputError("E-TISSUE-NONE", path=source.uri, where="was found")
    return TissueMask.of(found, AUTO)


def read_tissue(path: str | os.PathLike[str], shape: Size) -> TissueMask:
    """A mask from an image file, true where it is not 0, for an image of `shape`.

    Its size is any of the image's proportions, within a pixel or two of a hundred. Raises what
    opening an image raises, and InputError E-TISSUE-MASK, E-TISSUE-NONE.
    """
    source = open_source(path, palette="index")
    try:
        if source.bands != 1 or source.dtype.kind not in "iub":
            reason = f"has {source.bands} bands of {source.dtype}, not one of whole numbers"
            raise InputError("E-TISSUE-MASK", path=path, reason=reason)
        size = source.shape
        if size.area > _MAX_CELLS:
            reason = (
                f"is {size.cols} x {size.rows} pixels, more than {_MAX_CELLS:,}: make it smaller"
            )
            raise InputError("E-TISSUE-MASK", path=path, reason=reason)
        if not _alike(size, shape):
            reason = (
                f"is {size.cols} x {size.rows} pixels, which is another shape than the image's "
                f"{shape.cols} x {shape.rows}"
            )
            raise InputError("E-TISSUE-MASK", path=path, reason=reason)
        window = Window.whole(size)
        pixels = source.read(window)
        valid = valid_pixels(pixels, source.nodata, source.mask(window))
    finally:
        source.close()
    found = (pixels[..., 0] != 0) & (True if valid is None else valid)
    if not found.any():
        raise InputError("E-TISSUE-NONE", path=path, where="is marked in it")
    return TissueMask.of(found, str(Path(path).absolute()))


def tissue_png(mask: TissueMask) -> bytes:
    """The mask as a PNG of one byte a pixel, 255 where there is tissue; `read_tissue` takes it."""
    file = io.BytesIO()
    Image.fromarray(mask.pixels.astype(np.uint8) * 255).save(file, "PNG", optimize=True)
    return file.getvalue()


def _overview_shape(source: Source, level: int) -> Size:
    at = source.levels[level]
    pixel = source.georef.decimated(at.row_factor, at.col_factor).pixel_size
    longest = max(at.size)
    if pixel is not None and pixel.unit == "um":
        wanted = (_MICROMETRES / pixel.rows, _MICROMETRES / pixel.cols)
    else:
        wanted = (longest / _SIDE, longest / _SIDE)
    steps = (max(1.0, longest / _MAX_SIDE, one) for one in wanted)
    return Size(*(math.ceil(side / step) for side, step in zip(at.size, steps, strict=True)))


def _alike(mask: Size, image: Size) -> bool:
    """Whether a mask is an image made smaller, its sides rounded somehow."""
    factor = max(image) / max(mask)
    return all(
        abs(m * factor - i) <= max(2 * factor, 0.02 * i) for m, i in zip(mask, image, strict=True)
    )


def _smooth(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blurred bands; where there are no data, as if the ground, their median, were there."""
    known = pixels[np.isfinite(pixels).all(axis=2)]
    if not len(known):
        return np.zeros_like(pixels)
    filled = np.where(np.isfinite(pixels), pixels, np.median(known, axis=0))
    return np.asarray(ndimage.gaussian_filter(filled, (_BLUR, _BLUR, 0)), np.float32)


def _signal(pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.float32]:
    """How far each pixel is from its ground, 0 to 255: (rows, cols)."""
    full = 255.0 if dtype == np.uint8 else max(float(np.percentile(pixels, 99.9)), 1e-30)
    scaled = pixels * (255 / full)
    dark, middle, light = np.percentile(scaled.mean(axis=2), [1, 50, 99])
    colour = pixels.shape[2] == 3
    if middle - dark < light - middle and (dark < _BLACK or not colour):
        added = (scaled - np.percentile(scaled, 1, axis=(0, 1))).max(axis=2)
        return np.asarray(added * (255 / max(np.percentile(added, 99.9), 1e-30)), np.float32)
    glass = np.percentile(scaled, 99, axis=(0, 1))
    if np.ptp(glass) > _COLOURLESS:
        # There is none, only stain: measure it against white.
        glass = np.full_like(glass, 255.0)
    taken = (glass - scaled).max(axis=2)
    return np.where(_frame(scaled.max(axis=2) < _BLACK), 0, taken).astype(np.float32)


def _frame(black: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Black that reaches the image's edge, with what the blur makes of its rim."""
    labels, _ = ndimage.label(black)
    edges = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    frame = np.isin(labels, edges[edges > 0])
    return np.asarray(ndimage.binary_dilation(frame, iterations=_RIM), np.bool_)


def _above(signal: NDArray[np.float32]) -> NDArray[np.bool_]:
    limit = np.expm1(threshold_otsu(np.log1p(np.clip(signal, 0, 255))))
    found: NDArray[np.bool_] = signal > np.clip(limit, *_LIMITS)
    return found


def _cleaned(found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Without specks and holes, and with a margin."""
    found = _without_small(found, _SPECK)
    found = ~_without_small(~found, _HOLE)
    return np.asarray(ndimage.binary_dilation(found, iterations=_MARGIN), np.bool_)


def _without_small(found: NDArray[np.bool_], least: int) -> NDArray[np.bool_]:
    """Without components of fewer than `least` pixels, unless the image itself has no more."""
    labels, _ = ndimage.label(found)
    large = np.bincount(labels.ravel()) >= min(least, found.size // 8)
    large[0] = False
    return np.asarray(large[labels], np.bool_)
