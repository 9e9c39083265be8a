"""Regions from blocks equal scikit-image's on the whole mask, however the mask is cut."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from regions_oracle import assert_like_skimage, block_tables, label_raster, tiled

from tilseg.regions import merge

CONNECTIVITY = st.sampled_from([1, 2])


@st.composite
def masks(draw):
    """Noise of 1 to 4 classes from sparse to full, coarse or not, with holes of nodata."""
    shape = draw(st.integers(1, 29)), draw(st.integers(1, 31))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    grain = draw(st.integers(1, 5))
    classes = rng.integers(1, draw(st.integers(1, 4)), shape, dtype=np.uint8, endpoint=True)
    classes[rng.random(shape) > draw(st.floats(0, 1))] = 0
    mask = np.kron(classes, np.ones((grain, grain), dtype=np.uint8))[: shape[0], : shape[1]]
    mask[rng.random(shape) < draw(st.sampled_from([0.0, 0.1]))] = 255
    return mask


@st.composite
def blocks(draw, shape, most=30):
    """A block size for `shape`, from one pixel to more than all; `most` blocks, for time."""
    rows = draw(st.integers(-(-shape[0] // most), shape[0] + 3))
    columns_of_blocks = max(1, most // -(-shape[0] // rows))
    return rows, draw(st.integers(-(-shape[1] // columns_of_blocks), shape[1] + 3))


@st.composite
def cut_masks(draw):
    mask = draw(masks())
    return mask, draw(blocks(mask.shape))


@st.composite
def tiny_masks(draw):
    """Pixel by pixel, so that a failure shrinks."""
    shape = st.tuples(st.integers(1, 9), st.integers(1, 9))
    mask = draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, 2)))
    return mask, draw(blocks(mask.shape))


@settings(max_examples=50, deadline=None)
@given(cut_masks(), CONNECTIVITY)
def test_noise(cut, connectivity):
    mask, block = cut
    regions = tiled(mask, block, connectivity=connectivity)
    assert_like_skimage(regions, mask, connectivity=connectivity)


@settings(max_examples=50, deadline=None)
@given(tiny_masks(), CONNECTIVITY)
def test_tiny_masks(cut, connectivity):
    mask, block = cut
    regions = tiled(mask, block, connectivity=connectivity)
    assert_like_skimage(regions, mask, connectivity=connectivity)


@settings(max_examples=20, deadline=None)
@given(cut_masks(), st.sampled_from([None, 0, 1, 9]), st.sampled_from([None, 255, 2, 0]))
def test_any_background_and_nodata(cut, background, nodata):
    mask, block = cut
    rules = {"background": background, "nodata": nodata}
    assert_like_skimage(tiled(mask, block, **rules), mask, **rules)


@settings(max_examples=20, deadline=None)
@given(cut_masks(), CONNECTIVITY)
def test_hulls(cut, connectivity):
    mask, block = cut
    regions = tiled(mask, block, connectivity=connectivity, with_hull=True)
    assert_like_skimage(regions, mask, connectivity=connectivity, with_hull=True)


def spiral(rows: int, cols: int) -> np.ndarray:
    """One line of pixels that winds inward, one pixel from itself."""
    mask = np.zeros((rows, cols), dtype=np.uint8)
    top, left, bottom, right = 0, 0, rows - 1, cols - 1
    while top <= bottom and left <= right:
        mask[top, max(left - 2, 0) : right + 1] = 1
        mask[top : bottom + 1, right] = 1
        mask[bottom, left : right + 1] = 1
        mask[top + 2 : bottom + 1, left] = 1
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    return mask


def diagonals(rows: int, cols: int) -> np.ndarray:
    """Lines that hang together by corners only, in two classes."""
    row, col = np.indices((rows, cols))
    return np.where((row + col) % 5 == 0, 1, np.where((row - col) % 7 == 0, 2, 0)).astype(np.uint8)


SPECIAL = {
    "snake": spiral(37, 29),
    "diagonals": diagonals(31, 43),
    "checkerboard": (np.indices((17, 23)).sum(axis=0) % 2).astype(np.uint8),
    "all one class": np.full((29, 19), 3, dtype=np.uint8),
    "single pixels": (np.indices((23, 31)) % 2 == 0).all(axis=0).astype(np.uint8),
    "nothing": np.zeros((11, 13), dtype=np.uint8),
    "all nodata": np.full((11, 13), 255, dtype=np.uint8),
    "one row": np.array([[1, 1, 0, 2, 2, 1, 255, 1, 1, 1, 0, 1]], dtype=np.uint8),
    "one pixel": np.ones((1, 1), dtype=np.uint8),
    "rings": (np.maximum(*np.abs(np.indices((35, 35)) - 17)) % 2).astype(np.uint8),
    "U joined below": np.array([[1, 0, 1]] * 13 + [[1, 1, 1]], dtype=np.uint8),
}


@pytest.mark.parametrize("block", [(1, 50), (50, 1), (2, 13), (7, 5), (8, 9), (13, 17), (99, 99)])
@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_masks(name, connectivity, block):
    mask = SPECIAL[name]
    regions = tiled(mask, block, connectivity=connectivity)
    assert_like_skimage(regions, mask, connectivity=connectivity)


@pytest.mark.parametrize("connectivity", [1, 2])
@pytest.mark.parametrize("name", SPECIAL)
def test_blocks_of_one_pixel(name, connectivity):
    mask = SPECIAL[name][:11, :9]
    regions = tiled(mask, (1, 1), connectivity=connectivity)
    assert_like_skimage(regions, mask, connectivity=connectivity)


TYPES = [np.uint8, np.uint16, np.int16, np.int8, np.bool_]


@settings(max_examples=20, deadline=None)
@given(cut_masks(), st.sampled_from(TYPES), st.integers(1, 3))
def test_intensities(cut, dtype, bands):
    mask, block = cut
    image = np.random.default_rng(5).integers(0, 2**16, (*mask.shape, bands)).astype(np.uint16)
    image = image > 30000 if dtype is np.bool_ else image.astype(dtype)
    assert_like_skimage(tiled(mask, block, image), mask, image)


@settings(max_examples=20, deadline=None)
@given(cut_masks(), CONNECTIVITY, st.integers(0, 2**32 - 1))
def test_the_order_of_tables_does_not_matter(cut, connectivity, seed):
    mask, block = cut
    image = np.random.default_rng(seed).standard_normal((*mask.shape, 1))
    grid, tables = block_tables(mask, block, image, connectivity=connectivity, with_hull=True)
    regions = merge(tables, grid)
    random.Random(seed).shuffle(tables)
    again = merge(tables, grid)
    for name, values in regions.columns.items():
        assert values.tobytes() == again.columns[name].tobytes(), name
    for index in range(len(grid)):
        np.testing.assert_array_equal(regions.block_labels[index], again.block_labels[index])


@settings(max_examples=20, deadline=None)
@given(cut_masks(), CONNECTIVITY, st.data())
def test_columns_are_the_same_bits_for_any_blocks(cut, connectivity, data):
    mask, block = cut
    image = np.random.default_rng(8).integers(0, 256, (*mask.shape, 2), dtype=np.uint8)
    other = data.draw(blocks(mask.shape))
    one = tiled(mask, block, image, connectivity=connectivity, with_hull=True)
    two = tiled(mask, other, image, connectivity=connectivity, with_hull=True)
    for name, values in one.columns.items():
        assert values.tobytes() == two.columns[name].tobytes(), name


@settings(max_examples=15, deadline=None)
@given(cut_masks(), st.integers(1, 12))
def test_dropping_small_regions_is_as_if_they_were_background(cut, least):
    mask, block = cut
    regions = tiled(mask, block)
    large = regions.columns["area"] >= least
    kept = regions.select(large)
    without = mask.copy()
    without[np.isin(label_raster(mask, regions), regions.columns["label"][~large])] = 0
    assert_like_skimage(tiled(without, block), without)
    np.testing.assert_array_equal(
        label_raster(mask, kept), label_raster(without, tiled(without, block))
    )
    for name, values in tiled(without, block).columns.items():
        np.testing.assert_array_equal(kept.columns[name], values, err_msg=name)
