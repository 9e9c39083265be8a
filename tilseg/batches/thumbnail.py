"""A small picture of a result: the image, where a coarse level of it can be had, and its classes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tilseg.card import Card
from tilseg.plan import Plan
from tilseg.sinks.ngff import rgb
from tilseg.source import Source, open_source, reopen_source
from tilseg.where.overview import overview
from tilseg.window import Size, Window

_LONGEST = 160
# Pixels of a level that are worth reading again for a picture.
_MOST_READ = 2**23
_OPACITY = 0.45
_PAPER = 233


def thumbnail(output: Path, plan: Plan, card: Card) -> bytes:
    """JPEG of at most 160 pixels a side, of a result that is in place."""
    codes = _codes(output)
    ground = _ground(plan, Size(*codes.shape))
    colors = np.full((256, 3), _PAPER, np.float32)
    opacity = np.zeros(256, np.float32)
    for value, info in enumerate(card.classes):
        colors[value] = rgb(info.color)
        opacity[value] = 0.0 if value == card.background else _OPACITY
    part = opacity[codes][..., None]
    pixels = np.rint(ground * (1 - part) + colors[codes] * part).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    return file.getvalue()


def _codes(output: Path) -> NDArray[np.uint8]:
    """Class values at the middles of the cells of the picture."""
    found = (output / name for name in ("mask.zarr", "mask.tif"))
    there = next((path for path in found if path.exists()), output)
    # A mask on a map has its colours in a palette.
    mask = open_source(there, palette="index")
    try:
        level = len(mask.levels) - 1
        size = mask.levels[level].size
        codes = mask.read(Window.whole(size), level)[..., 0].astype(np.uint8)
    finally:
        mask.close()
    shrink = max(1.0, max(size) / _LONGEST)
    middles = [
        np.minimum(((np.arange(max(1, int(side / shrink))) + 0.5) * shrink).astype(int), side - 1)
        for side in size
    ]
    small: NDArray[np.uint8] = codes[np.ix_(*middles)]
    return small


def _ground(plan: Plan, shape: Size) -> NDArray[np.float32]:
    """The image in (rows, cols, 3) of 0 to 255; paper where it has no level that is small enough."""
    source = reopen_source(plan.source)
    try:
        bands = plan.bands[:3] if len(plan.bands) >= 3 else plan.bands[:1]
        if not _is_cheap(source, shape):
            return np.full((*shape, 3), _PAPER, np.float32)
        pixels = overview(source, bands, plan.level, shape).pixels
        return np.broadcast_to(_stretched(pixels, source.dtype), (*shape, 3)).astype(np.float32)
    finally:
        source.close()


def _is_cheap(source: Source, shape: Size) -> bool:
    sizes = [level.size for level in source.levels]
    enough = [size for size in sizes if size.rows >= shape.rows and size.cols >= shape.cols]
    return bool(enough) and enough[-1].area <= _MOST_READ


def _stretched(pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.float32]:
    """Values as greys of 0 to 255: bytes as they are, others from their 2nd to 98th percentile."""
    low, high = 0.0, 255.0
    if dtype != np.uint8 and np.isfinite(pixels).any():
        low, high = np.nanpercentile(pixels, (2, 98))
    greys = (pixels - low) / max(high - low, 1e-12) * 255
    shown: NDArray[np.float32] = np.nan_to_num(np.clip(greys, 0, 255), nan=_PAPER)
    return shown.astype(np.float32)
