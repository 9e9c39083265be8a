"""One strip or tile of a TIFF page from its stored bytes, by tifffile and imagecodecs.

What the codecs take on trust is looked at first: the size that a picture in a tile says it has,
and whether it is there to its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.sources.jpeg_ends import has_end
from tilseg.sources.streams import declared_size
from tilseg.sources.tiff_header import Segments

_JPEG = (6, 7, 34892, 33007)
_YCBCR_JPEG2000 = 33003
# JPEG and JPEG 2000, but not the old JPEG, which may lack its end.
_WITH_END = (7, 33003, 33005, 33007, 34712, 34892)
# Of numbers, not of a picture: CCITT, LZW, Deflate, PackBits, LZMA, Zstandard and electron events.
# They are decoded into as many bytes as a segment has.
_PLAIN = (1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 34926, 50000, 50013, 65000, 65001, 65002)
# Writers pad the last strip or tile; a stream may hold this many pixels beyond its segment.
_PADDING = 2**20


def decoder(frame: Any, keyframe: Any, segments: Segments) -> Callable[[bytes, int], NDArray[Any]]:
    """From bytes and index of a segment of `frame` to its pixels (rows, cols, samples).

    The function raises ValueError, or whatever a codec raises, for bytes that make no sense.
    """
    # Made here, in one thread: tifffile's property is not thread-safe when first asked.
    decode = keyframe.decode
    tables: dict[str, Any] = {}
    if keyframe.compression in _JPEG:
        tables = {"jpegtables": frame.jpegtables, "jpegheader": keyframe.jpegheader}
    whole = keyframe.compression in _WITH_END
    # A stream to which tifffile puts a header gets the size of its tile with it.
    picture = keyframe.compression not in _PLAIN and not tables.get("jpegheader")
    ycbcr = keyframe.compression == _YCBCR_JPEG2000 and keyframe.samplesperpixel == 3

    def segment(stored: bytes, index: int) -> NDArray[Any]:
        if picture:
            _check_size(stored, segments)
        if whole and not has_end(stored):
            raise ValueError("it ends in the middle of a JPEG")
        pixels: NDArray[Any] = decode(stored, index, **tables)[0][0]
        return _rgb(pixels) if ycbcr else pixels

    return segment


def _check_size(stored: bytes, segments: Segments) -> None:
    size = declared_size(stored)
    if size is None:
        raise ValueError("it does not begin as a picture does")
    if size.area > segments.rows * segments.cols + _PADDING:
        raise ValueError(f"it says that it holds {size.rows} x {size.cols} pixels")


def _rgb(ycbcr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """JFIF's full-range YCbCr as RGB, which Aperio's compression 33003 leaves to the reader."""
    y, cb, cr = (ycbcr[..., k].astype(np.float32) for k in range(3))
    cb, cr = cb - 128, cr - 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], axis=-1)
    converted: NDArray[np.uint8] = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return converted
