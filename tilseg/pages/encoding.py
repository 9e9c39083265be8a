"""Pixels as picture files, the same bytes for the same pixels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_QUALITIES = (90, 75, 50, 30)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """(rows, cols, 3) colours as a PNG file."""
    return _encoded(Image.fromarray(pixels), "PNG")


def photograph(pixels: NDArray[np.uint8], most: int) -> bytes:
    """(rows, cols, 3) colours in at most `most` bytes: a PNG if it fits, else the best JPEG that
    does, of every second pixel if need be."""
    exact = png(pixels)
    if len(exact) <= most:
        return exact
    for quality in _QUALITIES:
        content = _encoded(Image.fromarray(pixels), "JPEG", quality=quality, optimize=True)
        if len(content) <= most:
            return content
    return photograph(np.ascontiguousarray(pixels[::2, ::2]), most)


def overlay(values: NDArray[np.uint8], colors: NDArray[np.uint8], most: int) -> bytes:
    """(rows, cols) values, each in one of the (256, 4) `colors` with opacity, as a PNG file of at
    most `most` bytes, of every second pixel if need be."""
    image = Image.fromarray(values)
    image.putpalette(colors[:, :3].tobytes())
    content = _encoded(image, "PNG", transparency=colors[:, 3].tobytes())
    if len(content) <= most:
        return content
    return overlay(np.ascontiguousarray(values[::2, ::2]), colors, most)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
