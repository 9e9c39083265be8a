"""Resampled images: the kernel against a dense matrix of its definition and against Pillow, any
window against the whole, missing pixels, levels and places."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import tifffile
from contracts.source_contract import SourceContract
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tilseg.georef import Factors, Georef, PixelSize
from tilseg.resample import grid_length, nearest, resample, taps
from tilseg.source import Level, open_source
from tilseg.sources.base import BaseSource
from tilseg.sources.resampled import ResampledSource, on_grid
from tilseg.window import Size, Window

factors = st.floats(0.3, 3.0)


def matrix(length: int, size: int, factor: float) -> np.ndarray:
    """The kernel as its docstring defines it: (length, size), one number at a time."""
    support = max(1.0, factor)
    dense = np.zeros((length, size))
    for i in range(length):
        for j in range(size):
            dense[i, j] = max(0.0, 1 - abs(j + 0.5 - min((i + 0.5) * factor, size)) / support)
        dense[i] /= dense[i].sum()
    return dense


def image_of(rows: int, cols: int, dtype: type = np.uint8, bands: int = 2, seed: int = 0):
    return np.random.default_rng(seed).integers(0, 250, (rows, cols, bands)).astype(dtype)


def whole(source) -> np.ndarray:
    return source.read(Window.whole(source.shape))


@given(st.integers(1, 40), factors, st.integers(0, 10**6))
def test_weights_are_those_of_the_definition(size, factor, seed):
    length = grid_length(size, factor)
    dense = matrix(length, size, factor)
    rng = np.random.default_rng(seed)
    start = int(rng.integers(length))
    stop = int(rng.integers(start, length)) + 1
    found = taps(start, stop, size, factor)
    placed = np.zeros((stop - start, size))
    np.add.at(placed, (np.arange(stop - start)[:, None], found.index), found.weight)
    np.testing.assert_allclose(placed, dense[start:stop], atol=1e-12)


@given(st.integers(1, 10**5), factors)
def test_the_grid_is_as_long_as_the_image_to_half_a_pixel(size, factor):
    length = grid_length(size, factor)
    assert length == 1 or abs(length * factor - size) <= factor / 2 * (1 + 1e-9)


@given(st.integers(1, 30), st.integers(1, 30), factors, factors)
def test_pixels_are_the_products_with_both_matrices(rows, cols, down, across):
    pixels = image_of(rows, cols, np.float32).astype(np.float64)
    shape = grid_length(rows, down), grid_length(cols, across)
    found = resample(pixels, taps(0, shape[0], rows, down), taps(0, shape[1], cols, across))
    expected = np.einsum(
        "ir,jc,rcb->ijb", matrix(shape[0], rows, down), matrix(shape[1], cols, across), pixels
    )
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize(("size", "length"), [(60, 20), (61, 61 * 3), (45, 18), (40, 64), (37, 37)])
def test_the_kernel_is_pillows(size, length):
    """Where the number of pixels is a whole one, Pillow has the same grid."""
    pixels = np.random.default_rng(1).random((size, size), np.float32)
    expected = Image.fromarray(pixels).resize((length, length), Image.Resampling.BILINEAR)
    both = taps(0, length, size, size / length)
    np.testing.assert_allclose(resample(pixels, both, both), np.asarray(expected), atol=1e-6)


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(factors, factors),
    st.sampled_from([np.uint8, np.uint16, np.int16, np.float32]),
    st.integers(0, 10**6),
)
def test_any_window_has_the_bits_of_the_whole(shape, scale, dtype, seed):
    source = on_grid(open_source(image_of(*shape, dtype, seed=seed)), Factors(*scale))
    pixels = whole(source)
    rng = np.random.default_rng(seed)
    for _ in range(4):
        row, col = (int(rng.integers(side)) for side in source.shape)
        rows = int(rng.integers(1, source.shape.rows - row + 1))
        cols = int(rng.integers(1, source.shape.cols - col + 1))
        window = Window(row, col, rows, cols)
        np.testing.assert_array_equal(source.read(window), pixels[window.slices])


class TestResampled(SourceContract):
    """A resampled image keeps what every source promises."""

    scale = Factors(1.7, 0.6)

    def write(self, folder):
        return image_of(61, 47, np.uint16, bands=3)

    def open(self, image):
        return on_grid(open_source(image), self.scale)

    def whole(self, image, level):
        sides = zip(image.shape[:2], self.scale, strict=True)
        down, across = (matrix(grid_length(n, f), n, f) for n, f in sides)
        return np.rint(np.einsum("ir,jc,rcb->ijb", down, across, image)).astype(np.uint16)

    def change(self, image):
        image[-1, -1, -1] += 1


def test_strips_of_a_large_window_leave_no_trace(monkeypatch):
    image = image_of(211, 173)
    expected = whole(on_grid(open_source(image), Factors(1.7, 0.6)))
    for size in (1, 5000, 40000):
        monkeypatch.setattr("tilseg.sources.resampled._STRIP_BYTES", size)
        monkeypatch.setattr("tilseg.resample._PIECE", size)
        found = whole(on_grid(open_source(image), Factors(1.7, 0.6)))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("factor", [40.0, 95.0, 96.0, 97.0, 200.0, 1e18])
def test_a_pixel_larger_than_the_image_is_its_weighted_mean(factor):
    image = image_of(97, 53, np.float32)
    source = on_grid(open_source(image), Factors(factor, 2.0))
    down, across = matrix(source.shape.rows, 97, factor), matrix(source.shape.cols, 53, 2.0)
    expected = np.einsum("ir,jc,rcb->ijb", down, across, image.astype(np.float64))
    np.testing.assert_allclose(whole(source), expected, rtol=1e-6)
    assert source.working_bytes(source.shape) < 2**26


def test_integers_are_rounded_and_a_flat_image_stays_flat():
    flat = np.full((31, 47, 1), 255, np.uint8)
    assert (whole(on_grid(open_source(flat), Factors(2.3, 0.71))) == 255).all()
    high = np.full((31, 47, 1), 65535, np.uint16)
    assert (whole(on_grid(open_source(high), Factors(2.3, 0.71))) == 65535).all()
    image = image_of(31, 47, np.uint16)
    exact = resample(
        image, taps(0, grid_length(31, 2.3), 31, 2.3), taps(0, grid_length(47, 0.71), 47, 0.71)
    )
    found = whole(on_grid(open_source(image), Factors(2.3, 0.71)))
    np.testing.assert_array_equal(found, np.rint(exact))


class Missing(BaseSource):
    """Pixels with nodata and a mask, of which no file is needed."""

    files = ()

    def __init__(self, pixels, nodata=None, mask=None):
        size = Size(*pixels.shape[:2])
        super().__init__(
            uri="missing",
            reader="numpy",
            dtype=pixels.dtype,
            band_names=("",) * pixels.shape[2],
            levels=(Level(size, 1.0, 1.0),),
            georef=Georef(),
            nodata=nodata,
        )
        self.pixels, self.shown = pixels, mask

    def _read(self, window, level, bands):
        return self.pixels[window.slices][..., list(bands)]

    def _mask(self, window, level):
        return None if self.shown is None else self.shown[window.slices]

    def identity(self):
        return {}

    def close(self):
        pass


@settings(max_examples=40)
@given(
    st.tuples(st.integers(2, 30), st.integers(2, 30)),
    st.tuples(factors, factors),
    st.sampled_from(["nodata", "nan", "mask"]),
    st.integers(0, 10**6),
)
def test_missing_pixels_are_left_out(shape, scale, kind, seed):
    rng = np.random.default_rng(seed)
    hole = rng.random(shape) < 0.3
    image = rng.integers(50, 250, (*shape, 2)).astype(np.float32)
    data = np.where(hole[..., None], {"nodata": -9.0, "nan": np.nan, "mask": 1e4}[kind], image)
    source = on_grid(
        Missing(
            data.astype(np.float32),
            nodata=-9.0 if kind == "nodata" else None,
            mask=~hole if kind == "mask" else None,
        ),
        Factors(*scale),
    )
    down = matrix(source.shape.rows, shape[0], scale[0])
    across = matrix(source.shape.cols, shape[1], scale[1])
    share = down @ ~hole @ across.T
    clear = np.abs(share - 0.5) > 1e-6  # which side of one half rounding may decide
    valid = share > 0.5
    total = np.einsum("ir,jc,rcb->ijb", down, across, image * ~hole[..., None])
    pixels = whole(source)
    if kind == "mask":
        shown = source.mask(Window.whole(source.shape))
        part = Window(0, 1, source.shape.rows, source.shape.cols - 1)
        if part.cols:
            np.testing.assert_array_equal(source.mask(part), shown[part.slices])
    else:
        shown = ~np.isnan(pixels[..., 0]) if kind == "nan" else pixels[..., 0] != -9
        assert source.mask(Window.whole(source.shape)) is None
    np.testing.assert_array_equal(shown[clear], valid[clear])
    kept = clear & valid
    np.testing.assert_allclose(pixels[kept], total[kept] / share[kept][:, None], rtol=1e-5)
    # A window without a hole is computed another way: to the same bits.
    for row in range(source.shape.rows):
        window = Window(row, 0, 1, source.shape.cols)
        np.testing.assert_array_equal(source.read(window), pixels[window.slices])


@pytest.mark.parametrize(
    ("dtype", "nodata", "pattern", "moved"),
    [
        (np.int16, 0, (-4, 2, 2), 1),
        (np.uint8, 255, (254, 255, 255), 254),
        (np.float32, 0, (-1, 1), np.nextafter(np.float32(0), np.float32(1))),
    ],
)
def test_a_mean_that_is_nodata_is_moved_aside(dtype, nodata, pattern, moved):
    # No pixel is missing: no two bands have the value in the same place.
    period = len(pattern)
    pixels = np.zeros((9, 4 * period, period), dtype)
    for band in range(period):
        pixels[..., band] = np.tile(np.roll(pattern, band), 4)
    assert not (pixels == nodata).all(axis=2).any()
    source = on_grid(Missing(pixels, nodata=nodata), Factors(1.0, period))
    middle = source.read(Window(0, 1, 9, 2))
    assert (middle == np.array([moved, nodata, nodata], dtype)[:period]).all()


@pytest.mark.parametrize(("factor", "level"), [(1.9, 0), (2.0, 1), (3.9, 1), (4.0, 2), (9.0, 2)])
def test_the_level_just_finer_is_read(tmp_path, factor, level):
    pyramid = [image_of(*side, bands=3, seed=n) for n, side in enumerate([(203, 151), (101, 75)])]
    pyramid.append(image_of(50, 37, bands=3, seed=9))
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as tif:
        common = {"photometric": "rgb", "tile": (32, 32), "compression": "zlib", "metadata": None}
        tif.write(pyramid[0], subifds=2, **common)
        tif.write(pyramid[1], subfiletype=1, **common)
        tif.write(pyramid[2], subfiletype=1, **common)
    image = open_source(tmp_path / "pyramid.tif")
    assert len(image.levels) == 3
    source = on_grid(image, Factors(factor, factor))
    at = image.levels[level]
    assert source.shape == (grid_length(203, factor), grid_length(151, factor))
    expected = resample(
        pyramid[level],
        taps(0, source.shape.rows, at.size.rows, factor / at.row_factor),
        taps(0, source.shape.cols, at.size.cols, factor / at.col_factor),
    )
    np.testing.assert_array_equal(whole(source), np.rint(expected).astype(np.uint8))


def test_the_place_is_that_of_the_corner():
    georef = Georef("crs", (2.0, 0.5, 100.0, 0.25, -3.0, 900.0), PixelSize(3.0, 2.0, "m"))
    image = Missing(image_of(31, 47))
    image.georef = georef
    source = on_grid(image, Factors(1.5, 0.4))
    assert source.georef.factors == (1.5, 0.4)
    assert source.georef.pixel_size == PixelSize(4.5, 0.8, "m")
    for row, col in ((0, 0), (7, 11), (20, 3)):
        found = source.georef.affine @ (col, row)
        assert found == pytest.approx(georef.affine @ (col * 0.4, row * 1.5), abs=1e-12)


def test_it_pickles_and_reads_bands_in_any_order():
    image = open_source(image_of(31, 47, bands=4))
    source = on_grid(image, Factors(1.3, 2.1))
    again = pickle.loads(pickle.dumps(source))
    assert isinstance(again, ResampledSource)
    np.testing.assert_array_equal(whole(again), whole(source))
    window = Window(3, 2, 9, 7)
    chosen = source.read(window, bands=(2, 0, 2))
    np.testing.assert_array_equal(chosen, whole(source)[window.slices][..., [2, 0, 2]])


@given(st.integers(1, 300), factors)
def test_every_image_pixel_shows_the_mask_pixel_its_centre_is_in(size, factor):
    length = grid_length(size, factor)
    found = nearest(0, size, length, factor)
    assert found.min() >= 0
    assert found.max() < length
    for pixel, index in enumerate(found.tolist()):
        place = (pixel + 0.5) / factor
        assert index - 1e-9 <= place
        assert place <= index + 1 + 1e-9 or index == length - 1
    part = nearest(size // 3, size, length, factor)
    np.testing.assert_array_equal(part, found[size // 3 :])
