"""Instances from blocks are those of the whole mask, by their definitions, however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from instances_oracle import discs, in_blocks, whole
from scipy.ndimage import gaussian_filter

from tilseg.instance_rule import Border, Watershed

CONNECTIVITY = st.sampled_from([1, 2])
DEPTHS = st.sampled_from([0.0, 0.4, 0.75, 1.0, 2.3])
RADII = st.sampled_from([0, 1, 3, 7])


@st.composite
def blobs(draw):
    """Smooth shapes of 1 or 2 classes that touch, and a third class; holes of nodata."""
    shape = draw(st.integers(1, 43)), draw(st.integers(1, 47))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    field = gaussian_filter(rng.standard_normal(shape), draw(st.floats(0.4, 5)))
    field /= np.abs(field).max()
    mask = (field > draw(st.floats(-1, 0.3))).astype(np.uint8)
    mask[(mask == 1) & (np.abs(field) < draw(st.floats(0, 0.4)))] = 2
    mask[rng.random(shape) < draw(st.sampled_from([0.0, 0.02]))] = 255
    return mask


@st.composite
def tiny(draw):
    """Pixel by pixel, so that a failure shrinks."""
    shape = st.tuples(st.integers(1, 9), st.integers(1, 9))
    return draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, 2)))


@st.composite
def cut(draw, masks):
    mask = draw(masks)
    least = [-(-side // 5) for side in mask.shape]
    block = tuple(
        draw(st.integers(low, side + 3)) for low, side in zip(least, mask.shape, strict=True)
    )
    return mask, block


@settings(max_examples=70, deadline=None)
@given(cut(blobs()), DEPTHS, CONNECTIVITY)
def test_watershed(given, depth, connectivity):
    mask, block = given
    rule = Watershed(depth)
    found = in_blocks(mask, rule, block, connectivity)
    np.testing.assert_array_equal(found, whole(mask, rule, connectivity))


@settings(max_examples=40, deadline=None)
@given(cut(tiny()), DEPTHS, CONNECTIVITY)
def test_watershed_pixel_by_pixel(given, depth, connectivity):
    mask, block = given
    rule = Watershed(depth)
    found = in_blocks(mask, rule, block, connectivity)
    np.testing.assert_array_equal(found, whole(mask, rule, connectivity))


@settings(max_examples=70, deadline=None)
@given(cut(blobs()), RADII, CONNECTIVITY)
def test_border(given, radius, connectivity):
    mask, block = given
    rule = Border(radius, 2)
    found = in_blocks(mask, rule, block, connectivity)
    np.testing.assert_array_equal(found, whole(mask, rule, connectivity))


@settings(max_examples=40, deadline=None)
@given(cut(tiny()), RADII, CONNECTIVITY)
def test_border_pixel_by_pixel(given, radius, connectivity):
    mask, block = given
    rule = Border(radius, 2)
    found = in_blocks(mask, rule, block, connectivity)
    np.testing.assert_array_equal(found, whole(mask, rule, connectivity))


def test_what_is_thicker_than_the_limit_has_a_flat_top():
    # Three squares of 150 pixels: one neck of 140 pixels, wider than 128, and one of 60.
    mask = np.zeros((163, 491), np.uint8)
    for left in (3, 163, 323):
        mask[5:155, left : left + 150] = 1
    mask[10:150, 150:170] = 1
    mask[50:110, 310:330] = 1
    rule = Watershed(1.0)
    expected = whole(mask, rule)
    assert expected.max() == 2
    assert expected[80, 80] == expected[80, 240] != expected[80, 400]
    for block in ((53, 61), (163, 97)):
        np.testing.assert_array_equal(in_blocks(mask, rule, block), expected)


@pytest.mark.parametrize("connectivity", [1, 2])
def test_discs(connectivity):
    mask = discs((307, 419), 190, (4, 15), seed=1)
    expected = in_blocks(mask, Watershed(), mask.shape, connectivity)
    assert 100 < expected.max() < 190
    for block in ((101, 97), (31, 211), (64, 64)):
        found = in_blocks(mask, Watershed(), block, connectivity)
        np.testing.assert_array_equal(found, expected)
