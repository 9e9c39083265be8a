"""What a report is put together from, against numpy, scikit-image and Pillow."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from skimage.measure import label, regionprops_table
from skimage.segmentation import find_boundaries

from tilseg.card import ClassInfo
from tilseg.georef import Georef
from tilseg.pages.encoding import overlay, photograph
from tilseg.regions.components import Rules
from tilseg.regions.grid import BlockGrid
from tilseg.regions.region_table import RegionTable
from tilseg.report import words
from tilseg.report.histogram import histogram, nice
from tilseg.report.layers import inner_edges
from tilseg.report.overview import overview_values
from tilseg.report.places import choose_places, square
from tilseg.sinks.probabilities import ProbabilityStore
from tilseg.sinks.zarr import MaskStore
from tilseg.window import Size, Window

FINITE = st.floats(-1e9, 1e9, allow_subnormal=False)


@given(hnp.arrays(np.float64, st.integers(1, 60), elements=FINITE), st.booleans())
def test_histogram_counts_every_value_once(values, log):
    values = np.abs(values) + 1e-3 if log else values
    found = histogram(values, log=log)
    assert found is not None
    assert sum(found.counts) == found.values == len(values)
    assert found.low <= found.least <= found.median <= found.most <= found.high
    assert all(-1e-9 <= place <= 1 + 1e-9 for place, _ in found.ticks)
    places = [place for place, _ in found.ticks]
    assert places == sorted(places)
    assert 0 <= found.middle <= 1


@pytest.mark.parametrize("log", [False, True])
def test_histogram_is_numpys(log):
    values = np.random.default_rng(3).lognormal(2, 1.5, 997)
    found = histogram(values, log=log)
    scale = np.log(values) if log else values
    expected, _ = np.histogram(scale, bins=len(found.counts))
    np.testing.assert_array_equal(found.counts, expected)
    assert found.median == np.median(values)
    assert len(found.ticks) >= 2


def test_histogram_of_nothing_to_count():
    assert histogram(np.array([np.nan, np.inf]), log=False) is None
    assert histogram(np.array([0.0, -3.0]), log=True) is None
    assert sum(histogram(np.array([7.0, np.nan, 7.0]), log=True).counts) == 2


@given(st.floats(1e-9, 1e9))
def test_nice_is_the_next_round_number_below(length):
    found = nice(length)
    assert found <= length * (1 + 1e-9) < 2.5 * found * (1 + 1e-6)
    digits = f"{found:.6e}".split("e")[0]
    assert float(digits) in (1, 2, 5)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_edges_are_those_of_scikit_image(values):
    expected = find_boundaries(values, connectivity=1, mode="thick")
    np.testing.assert_array_equal(inner_edges(values), expected)


@given(st.data())
def test_square_lies_inside_and_holds_its_middle(data):
    shape = Size(data.draw(st.integers(1, 400)), data.draw(st.integers(1, 400)))
    row, col = (data.draw(st.integers(0, side - 1)) for side in shape)
    side = data.draw(st.integers(1, 500))
    found = square(row, col, side, shape)
    assert Window.whole(shape).contains(found)
    assert found.contains(Window(row, col, 1, 1))
    assert found.size == tuple(min(side, length) for length in shape)


def _table(mask: np.ndarray) -> RegionTable:
    names = ("label", "area", "bbox")
    columns = regionprops_table(label(mask, connectivity=2), properties=names)
    columns["class"] = np.ones(len(columns["label"]), np.int64)
    shape = Size(*mask.shape)
    return RegionTable(columns, BlockGrid(shape, shape), Rules(), 0, 0, {})


def test_places_of_regions():
    mask = np.kron(np.random.default_rng(5).random((61, 47)) < 0.2, np.ones((13, 11))) > 0
    mask[3, 5] = mask[401, 200] = True
    regions, shape = _table(mask), Size(*mask.shape)
    areas = regions.columns["area"]
    places = choose_places(regions, None, shape)
    assert [each.why for each in places] == ["largest"] * 2 + ["smallest"] * 2 + ["random"] * 4
    assert len({each.row for each in places}) == len(places)
    rows = [each.row for each in places]
    assert sorted(areas[rows[:2]])[::-1] == sorted(areas)[::-1][:2]
    assert sorted(areas[rows[2:4]]) == sorted(areas)[:2]
    assert places == choose_places(regions, None, shape)
    for each in places:
        box = Window(each.box.row + each.window.row, each.box.col + each.window.col, *each.box.size)
        assert Window.whole(shape).contains(each.window)
        # Of a region that is larger than its window the middle is shown.
        middle = Window(box.row + box.rows // 2, box.col + box.cols // 2, 1, 1)
        assert each.window.contains(middle)
        numbers = label(mask, connectivity=2)[each.window.slices]
        assert (numbers == regions.columns["label"][each.row]).any()


@pytest.mark.parametrize("count", range(5))
def test_few_regions_are_shown_once(count):
    mask = np.zeros((101, 67), bool)
    mask[3 : 3 + 17 * count : 17, 5] = True
    places = choose_places(_table(mask), None, Size(*mask.shape))
    assert sorted(each.row for each in places) == list(range(count))


def test_places_in_doubt_are_the_least_sure(tmp_path):
    rng = np.random.default_rng(2)
    shape, block = Size(1301, 1733), Size(701, 653)
    first = rng.integers(140, 255, shape)
    first[700:780, 900:1000] = 128
    first[:97] = 255
    pixels = np.stack([first, 255 - first], axis=2).astype(np.uint8)
    pixels[:97] = 0  # no data, which is no doubt
    store = ProbabilityStore.create(tmp_path / "p.zarr", shape, block, 2)
    for row, col in itertools.product((0, 701), (0, 653, 1306)):
        window = Window(row, col, *block).intersection(Window.whole(shape))
        store.commit(window, pixels[window.slices])
    classes = [ClassInfo(name=name, color="#00aa00") for name in "ab"]
    store.finish(name="p", classes=classes, georef=Georef())
    places = choose_places(None, store, shape)
    # Every fourth pixel is looked at.
    seen = np.abs(pixels[::4, ::4, 0].astype(int) - pixels[::4, ::4, 1])
    seen[pixels[::4, ::4].max(axis=2) == 0] = 255
    assert places[0].doubt == 1 - seen.min() / 255
    assert Window(700, 900, 80, 100).intersection(places[0].window).size.area
    for one, other in itertools.combinations(places, 2):
        assert one.window.intersection(other.window).size.area == 0
        assert one.doubt >= 0.3
    assert all(each.window.row_stop > 97 for each in places)


def test_overview_shows_the_pixel_in_the_middle_of_a_dot(tmp_path):
    # Each class is a square of 64 pixels, so that the middle of a dot is the same on any level.
    shape = Size(1472, 2048)
    mask = (np.indices(shape) // 64).sum(axis=0).astype(np.uint8) % 7
    store = MaskStore.create(tmp_path / "m.zarr", shape, Size(*shape))
    store.commit(Window.whole(shape), mask)
    classes = [ClassInfo(name=str(value), color="#00aa00") for value in range(7)]
    store.finish(name="m", classes=classes, georef=Georef(), background=0)
    found = overview_values(store, Size(23 * 9, 32 * 9))
    expected = (np.indices((23, 32)).sum(axis=0) % 7).repeat(9, 0).repeat(9, 1)
    np.testing.assert_array_equal(found, expected)


def test_photograph_is_exact_where_it_fits_and_small_where_it_does_not():
    rng = np.random.default_rng(1)
    smooth = np.kron(rng.integers(0, 255, (7, 5, 3)), np.ones((11, 13, 1))).astype(np.uint8)
    exact = Image.open(io.BytesIO(photograph(smooth, 40_000)))
    np.testing.assert_array_equal(np.asarray(exact), smooth)
    noise = rng.integers(0, 256, (401, 307, 3), np.uint8)
    for most in (300_000, 50_000, 9_000):
        content = photograph(noise, most)
        assert len(content) <= most
        assert Image.open(io.BytesIO(content)).mode == "RGB"


def test_overlay_has_the_colours_of_its_values():
    rng = np.random.default_rng(1)
    colors = rng.integers(0, 256, (256, 4), np.uint8)
    values = rng.integers(0, 256, (61, 83), np.uint8)
    found = Image.open(io.BytesIO(overlay(values, colors, 100_000))).convert("RGBA")
    np.testing.assert_array_equal(np.asarray(found), colors[values])
    assert len(overlay(np.kron(values, np.ones((9, 9), np.uint8)), colors, 4_000)) <= 4_000


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.25, "um", "0.25 µm²"),
        (1268.3, "um", "1,268 µm²"),
        (1.0586102e6, "um", "1.059 mm²"),
        (9_999.0, "m", "9,999 m²"),
        (68_570.0, "m", "6.857 ha"),
        (2.3431e6, "m", "2.343 km²"),
        (1.5e12, "m", "1.5e+06 km²"),
        (None, "m", "-"),
        (3.0, None, "-"),
    ],
)
def test_areas_in_a_unit_that_suits_them(value, unit, shown):
    assert words.area(value, unit) == shown
