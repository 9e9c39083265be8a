"""Arithmetic of regions: floats, sums beyond 64 bits, areas of single pixels."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from regions_oracle import tiled, whole_labels
from skimage.measure import regionprops_table

from tilseg.regions import BlockGrid, BlockTable, Rules, measure_block, merge
from tilseg.regions.hull import Extents
from tilseg.regions.sums import Sums
from tilseg.window import Size


def smooth_mask(shape, seed=11):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 3, (-(-shape[0] // 6), -(-shape[1] // 6)), dtype=np.uint8)
    return np.kron(coarse, np.ones((6, 6), dtype=np.uint8))[: shape[0], : shape[1]]


@pytest.mark.parametrize("offset", [0.0, 3000.0, 1e6])
def test_float_bands_keep_their_digits(offset):
    """Squares are taken about means: heights near 3000 m with centimetres of relief."""
    mask = smooth_mask((41, 53))
    image = offset + 0.01 * np.random.default_rng(1).standard_normal((41, 53, 2))
    regions = tiled(mask, (13, 17), image)
    expected = regionprops_table(
        whole_labels(mask), image, properties=("intensity_mean", "intensity_std", "intensity_max")
    )
    for name, values in expected.items():
        # A double near 1e6 has steps of 1e-10, 1e-8 of the relief.
        relative = max(1e-13, 1e-14 * offset) if "std" in name else 1e-13
        np.testing.assert_allclose(regions.columns[name], values, rtol=relative, err_msg=name)


def test_float32_is_summed_in_double():
    mask = smooth_mask((41, 53))
    image = np.random.default_rng(1).random((41, 53, 1), dtype=np.float32)
    regions = tiled(mask, (13, 17), image)
    expected = tiled(mask, (41, 53), image.astype(np.float64))
    mean = "intensity_mean-0"
    np.testing.assert_allclose(regions.columns[mean], expected.columns[mean], rtol=1e-14)


def test_not_a_number_stays_in_its_region():
    mask = np.array([[1, 1, 0, 2, 2, 0, 1, 1]] * 6, dtype=np.uint8)
    image = np.ones((6, 8, 1))
    image[3, 0], image[2, 2], image[4, 4] = np.nan, np.inf, -np.inf
    regions = tiled(mask, (4, 5), image)
    mean = regions.columns["intensity_mean-0"]
    assert math.isnan(mean[0])
    assert mean[1] == -math.inf
    assert mean[2] == 1.0
    assert regions.columns["intensity_min-0"][2] == 1.0
    assert regions.columns["intensity_std-0"][2] == 0.0


def test_wide_integers_are_summed_as_floats():
    mask = smooth_mask((20, 30))
    image = np.random.default_rng(2).integers(0, 2**31, (20, 30, 1)).astype(np.uint32)
    regions = tiled(mask, (7, 9), image)
    expected = regionprops_table(
        whole_labels(mask), image, properties=("intensity_mean", "intensity_std")
    )
    for name, values in expected.items():
        np.testing.assert_allclose(regions.columns[name], values, rtol=1e-13)


def test_area_weights_add_up():
    mask = smooth_mask((41, 53))
    labels = whole_labels(mask)
    by_row = np.random.default_rng(3).random(41)
    by_pixel = np.random.default_rng(4).random((41, 53))
    grid = BlockGrid(Size(41, 53), Size(13, 17))
    for weights in (by_row, by_pixel):
        tables = [
            measure_block(
                mask[w.slices], w, shape=grid.shape, weights=weights[w.slices[: weights.ndim]]
            )
            for w in grid
        ]
        area = merge(tables, grid).columns["area_world"]
        full = weights if weights.ndim == 2 else np.broadcast_to(weights[:, None], mask.shape)
        expected = np.bincount(labels.ravel(), weights=full.ravel())[1:]
        np.testing.assert_allclose(area, expected, rtol=1e-13)


SIDE, BLOCK = 100_000, 10_000


def huge_block(grid: BlockGrid, index: int) -> BlockTable:
    """A block of one region of 1e5 x 1e5 pixels; band 0 is 65535, band 1 that on the left."""
    window, n = grid.window(index), BLOCK * BLOCK
    once = BLOCK * (BLOCK - 1) // 2 * BLOCK
    square = (BLOCK - 1) * BLOCK * (2 * BLOCK - 1) // 6 * BLOCK
    product = (BLOCK * (BLOCK - 1) // 2) ** 2
    left = 65535 * (window.col < SIDE // 2)
    zero = np.zeros(1, dtype=np.int64)
    sums = Sums(
        classes=zero + 1,
        first=zero + window.row * SIDE + window.col,
        bbox=np.array([[window.row, window.col, window.row_stop, window.col_stop]]),
        moments=np.array([[n, once, once, square, product, square]]),
        windows=np.zeros((1, 16), dtype=np.int64),
        pixels=np.zeros((1, 10), dtype=np.int64),
        bands=np.array([[[65535 * n, 65535**2 * n], [left * n, left**2 * n]]]),
        extrema=np.array([[[65535.0, 65535.0], [left, left]]]),
        world=np.array([[0.1 * n]]),
        hull=Extents(
            zero.repeat(2),
            np.array([window.row, window.row_stop - 1]),
            zero.repeat(2) + window.col,
            zero.repeat(2) + window.col_stop - 1,
        ),
    )
    return BlockTable(
        window=window,
        shape=grid.shape,
        rules=Rules(),
        sums=sums,
        border=np.ones(1, dtype=bool),
        # One number seen as many: a real strip of so large a block would be as large.
        strip_rows=np.broadcast_to(zero + 1, (8, BLOCK)),
        strip_cols=np.broadcast_to(zero + 1, (BLOCK, 8)),
        open_windows=np.zeros((0, 4), dtype=np.int64),
        open_pixels=np.zeros((0, 6), dtype=np.int64),
        background=0,
        nodata=0,
    )


def test_a_region_of_ten_billion_pixels_does_not_overflow():
    grid = BlockGrid(Size(SIDE, SIDE), Size(BLOCK, BLOCK))
    regions = merge((huge_block(grid, index) for index in range(len(grid))), grid)
    found = {name: values[0] for name, values in regions.columns.items()}
    assert len(regions) == 1
    assert found["area"] == SIDE**2
    assert [found[f"bbox-{i}"] for i in range(4)] == [0, 0, SIDE, SIDE]
    assert found["centroid-0"] == found["centroid-1"] == (SIDE - 1) / 2
    # The variance of 0..n-1 is (n^2 - 1) / 12, and the axis four times its root.
    axis = 4 * math.sqrt(Fraction(SIDE**2 - 1, 12))
    assert found["axis_major_length"] == pytest.approx(axis, rel=1e-15)
    assert found["axis_minor_length"] == pytest.approx(axis, rel=1e-15)
    assert found["eccentricity"] == 0
    assert found["extent"] == found["solidity"] == 1
    assert found["intensity_mean-0"] == 65535
    assert found["intensity_std-0"] == 0
    assert found["intensity_mean-1"] == found["intensity_std-1"] == 65535 / 2
    assert found["area_world"] == pytest.approx(0.1 * SIDE**2, rel=1e-15)
    # Farthest midpoints of edges: half a pixel beyond opposite corner pixels, along one axis.
    assert found["feret_diameter_max"] == math.sqrt(SIDE**2 + (SIDE - 1) ** 2)
    # Of the perimeter only what seams own: four border pixels at both ends of 18 seams.
    assert found["perimeter"] == 18 * 2 * 4


def test_products_of_sums_beyond_64_bits():
    """A region that fits in memory, whose sums fit 64 bits while n times them do not."""
    rows, cols = 2999, 3001
    mask = np.ones((rows, cols), dtype=np.uint8)
    image = np.full((rows, cols, 1), 65535, dtype=np.uint16)
    image[::2] = 1
    found = {name: values[0] for name, values in tiled(mask, (1500, 3001), image).columns.items()}
    assert found["axis_major_length"] == pytest.approx(4 * math.sqrt((cols**2 - 1) / 12), rel=1e-15)
    assert found["axis_minor_length"] == pytest.approx(4 * math.sqrt((rows**2 - 1) / 12), rel=1e-15)
    assert found["orientation"] == pytest.approx(math.pi / 2)
    odd = Fraction(1499, 2999)
    assert found["intensity_mean-0"] == pytest.approx(float(1 + 65534 * odd), rel=1e-15)
    assert found["intensity_std-0"] == pytest.approx(65534 * math.sqrt(odd * (1 - odd)), rel=1e-14)
    assert found["perimeter"] == 2 * (rows + cols) - 4
