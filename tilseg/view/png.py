"""Tiles as PNG, packed little: they go no further than this machine."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def rgb_png(pixels: NDArray[np.uint8]) -> bytes:
    """(rows, cols, 3) colours."""
    return _encoded(Image.fromarray(pixels))


def palette_png(values: NDArray[np.uint8], colors: NDArray[np.uint8]) -> bytes:
    """(rows, cols) values, each in one of the (256, 4) colours: red, green, blue, opacity."""
    image = Image.fromarray(values)
    image.putpalette(colors[:, :3].tobytes())
    return _encoded(image, transparency=colors[:, 3].tobytes())


def _encoded(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1, **options)
    return file.getvalue()
