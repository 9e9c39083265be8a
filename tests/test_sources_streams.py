"""Sizes that streams declare, against encoders of the same formats."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilseg.sources.streams import declared_size

SIZES = [(1, 1), (8, 16), (97, 61), (512, 388), (64, 64), (300, 533), (5, 1000)]
ENCODERS = {
    "jpeg": imagecodecs.jpeg8_encode,
    "j2k": lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k"),
    "jp2": lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="jp2"),
    "jxl": imagecodecs.jpegxl_encode,
    "jxl in a box": lambda pixels: imagecodecs.jpegxl_encode(pixels, usecontainer=True),
    "jxr": imagecodecs.jpegxr_encode,
    "png": imagecodecs.png_encode,
    "webp": lambda pixels: imagecodecs.webp_encode(pixels, lossless=False),
    "webp lossless": lambda pixels: imagecodecs.webp_encode(pixels, lossless=True),
}


@pytest.mark.parametrize("kind", ENCODERS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_size_is_the_encoders(kind, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert declared_size(bytes(ENCODERS[kind](pixels))) == size


def test_webp_with_alpha_has_another_header():
    pixels = np.zeros((33, 21, 4), np.uint8)
    pixels[:16, :, 3] = 255
    stream = bytes(imagecodecs.webp_encode(pixels, lossless=False))
    assert stream[12:16] == b"VP8X"
    assert declared_size(stream) == (33, 21)


@settings(max_examples=200)
@given(st.sampled_from(list(ENCODERS)), st.integers(0, 200), st.binary(max_size=8))
def test_what_makes_no_sense_has_no_size_and_raises_nothing(kind, cut, tail):
    whole = bytes(ENCODERS[kind](np.zeros((24, 16, 3), np.uint8)))
    found = declared_size(whole[:cut] + tail)
    assert found is None or min(found) >= 0 or kind in ("j2k", "jp2")
