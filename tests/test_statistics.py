"""Normalisation constants against numpy on the whole image."""

from __future__ import annotations

import numpy as np
import pytest

from tilseg.card import Normalization
from tilseg.errors import InputError
from tilseg.georef import Factors
from tilseg.nodata import fill_invalid, valid_pixels
from tilseg.source import open_source
from tilseg.sources.resampled import on_grid
from tilseg.statistics import band_statistics, sample_windows
from tilseg.window import Size, Window

IMAGE = Normalization(kind="image")


def _image(rows, cols, bands=3, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 250, (rows, cols, bands)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_small_image_gives_the_statistics_of_the_whole(dtype):
    image = _image(301, 211, dtype=dtype)
    found = band_statistics(open_source(image), IMAGE, bands=(2, 0))
    np.testing.assert_allclose(found.mean, image[..., [2, 0]].mean((0, 1), np.float64), rtol=1e-12)
    np.testing.assert_allclose(found.std, image[..., [2, 0]].std((0, 1), np.float64), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_percentiles_are_those_of_the_whole_small_image(dtype):
    image = _image(301, 211, dtype=dtype)
    normal = Normalization(kind="percentiles", percentiles=(1.0, 99.8))
    found = band_statistics(open_source(image), normal, bands=(2, 0))
    low, high = np.percentile(image[..., [2, 0]].reshape(-1, 2), (1.0, 99.8), axis=0)
    np.testing.assert_allclose(found.mean, low, rtol=1e-12)
    np.testing.assert_allclose(found.std, high - low, rtol=1e-12)
    flat = band_statistics(open_source(np.full((9, 8), 7, np.uint8)), normal, bands=(0,))
    assert (flat.mean, flat.std) == ((7.0,), (1.0,))


def test_a_range_that_is_turned_round_is_still_from_0_to_1():
    image = np.full((97, 89, 1), 240, np.uint8)
    image[20:60, 40:50] = 30
    normal = Normalization(kind="percentiles", percentiles=(0.0, 100.0), orient="bright-on-dark")
    found = band_statistics(open_source(image), normal, bands=(0,))
    assert [(value - found.mean[0]) / found.std[0] for value in (240, 30)] == [0, 1]


def test_statistics_of_a_resampled_image_are_those_of_its_pixels():
    source = on_grid(open_source(_image(301, 211)), Factors(1.7, 0.9))
    pixels = source.read(Window.whole(source.shape))
    found = band_statistics(source, IMAGE, bands=(0, 1, 2))
    np.testing.assert_allclose(found.mean, pixels.mean((0, 1), np.float64), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std((0, 1), np.float64), rtol=1e-12)


@pytest.mark.parametrize("shape", [Size(1, 1), Size(1, 4001), Size(1025, 1024), Size(9001, 40)])
def test_sample_lies_inside_the_image_without_overlap(shape):
    covered = np.zeros(shape, int)
    for window in sample_windows(shape):
        assert Window.whole(shape).contains(window)
        covered[window.slices] += 1
    assert covered.max() == 1
    assert covered[0, 0] == covered[-1, -1] == 1


def test_dark_objects_on_light_ground_are_turned_round():
    image = np.full((97, 89, 1), 240, np.uint8)
    image[20:30, 40:50] = 30
    turn = Normalization(kind="image", orient="bright-on-dark")
    light = band_statistics(open_source(image), turn, bands=(0,))
    dark = band_statistics(open_source(255 - image), turn, bands=(0,))
    assert light.std[0] == -dark.std[0] < 0


def test_nodata_and_nan_do_not_count():
    image = np.full((50, 31, 2), 7, np.float32)
    image[:10] = -9999
    image[10, 5, 1] = np.nan
    image[20, 20] = 9
    valid = valid_pixels(image, -9999.0)
    assert valid is not None
    expected = ~((image == -9999).all(2) | np.isnan(image).any(2))
    np.testing.assert_array_equal(valid, expected)


def test_one_band_at_nodata_is_data():
    image = np.array([[[0, 5], [0, 0]]], np.uint16)
    np.testing.assert_array_equal(valid_pixels(image, 0), [[True, False]])
    assert valid_pixels(image, 3) is None


def test_invalid_pixels_get_the_band_mean():
    image = np.array([[[1, 2], [0, 0]]], np.uint16)
    stats = band_statistics(
        open_source(image),
        Normalization(kind="constants", mean=(4.6, 10), std=(1, 1)),
        bands=(0, 1),
    )
    filled = fill_invalid(image, valid_pixels(image, 0), stats)
    np.testing.assert_array_equal(filled, [[[1, 2], [5, 10]]])
    assert filled.dtype == image.dtype


def test_image_without_valid_pixels_is_refused():
    with pytest.raises(InputError) as caught:
        band_statistics(open_source(np.full((5, 4, 1), np.nan, np.float32)), IMAGE, bands=(0,))
    assert caught.value.id == "E-INPUT-NO-DATA"


def test_flat_band_gets_unit_std():
    found = band_statistics(open_source(np.full((5, 4, 1), 3, np.uint8)), IMAGE, bands=(0,))
    assert found.std == (1.0,)


class _Holed:
    """An image of which some windows can't be read."""

    def __init__(self, pixels, holes):
        self._source = open_source(pixels)
        self._holes = holes

    def __getattr__(self, name):
        return getattr(self._source, name)

    def read(self, window, level=0, bands=None):
        if any(window.intersection(hole).size.area for hole in self._holes):
            raise InputError("E-INPUT-READ", path="holed", reason=f"{window} can't be read")
        return self._source.read(window, level, bands)


def test_windows_that_cant_be_read_take_no_part():
    pixels = _image(301, 211)
    holes = [Window(130, 70, 3, 3), Window(300, 0, 1, 1)]
    seen = np.ones(pixels.shape[:2], bool)
    for window in sample_windows(Size(301, 211)):
        if any(window.intersection(hole).size.area for hole in holes):
            seen[window.slices] = False
    found = band_statistics(_Holed(pixels, holes), IMAGE, bands=(0, 1, 2))
    np.testing.assert_allclose(found.mean, pixels[seen].mean(0, np.float64), rtol=1e-12)
    with pytest.raises(InputError, match="can't be read"):
        band_statistics(_Holed(pixels, [Window(0, 0, 301, 211)]), IMAGE, bands=(0,))


def test_joint_statistics_are_those_of_all_chosen_bands_together():
    image = _image(301, 211)
    image[..., 0] //= 3
    found = band_statistics(open_source(image), Normalization(kind="joint"), bands=(2, 0))
    np.testing.assert_allclose(found.mean, [image[..., [2, 0]].mean()] * 2, rtol=1e-12)
    np.testing.assert_allclose(found.std, [image[..., [2, 0]].std()] * 2, rtol=1e-12)
    flat = open_source(np.full((9, 8, 3), 7, np.uint8))
    assert band_statistics(flat, Normalization(kind="joint"), bands=range(3)).std == (1.0,) * 3


@pytest.mark.parametrize(
    ("of", "pixels", "refused"),
    [
        ("uint8", np.uint16, True),
        ("uint8", np.float32, True),
        ("uint16", np.uint8, True),
        ("uint8", np.uint8, False),
        ("int16", np.uint16, False),
        ("int16", np.int8, False),
        (None, np.uint16, False),
    ],
)
def test_constants_of_pixels_of_another_scale_are_refused(of, pixels, refused):
    normal = Normalization(kind="constants", mean=(120.0,), std=(40.0,), dtype=of)
    source = open_source(np.full((9, 8), 7, pixels))
    if refused:
        name = np.dtype(pixels).name
        with pytest.raises(InputError, match=f"pixels are {name}, .* are of {of}; scale") as caught:
            band_statistics(source, normal, bands=(0,))
        assert caught.value.id == "E-INPUT-SCALE"
    else:
        assert band_statistics(source, normal, bands=(0,)).mean == (120.0,)


def test_the_little_that_holds_data_is_found():
    """Between all windows of the first lattice."""
    image = np.full((3001, 4001, 1), np.nan, np.float32)
    image[80:180, 90:170] = np.random.default_rng(0).normal(7, 2, (100, 80, 1))
    found = band_statistics(open_source(image), IMAGE, bands=(0,))
    assert found.mean[0] == pytest.approx(7, abs=0.2)
    assert found.std[0] == pytest.approx(2, abs=0.2)
    image[:] = np.nan
    with pytest.raises(InputError) as caught:
        band_statistics(open_source(image), IMAGE, bands=(0,))
    assert caught.value.id == "E-INPUT-NO-DATA"
