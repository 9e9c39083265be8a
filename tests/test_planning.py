"""Tiles and blocks chosen from a memory budget."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilseg
from tilseg.budget import format_bytes, parse_memory
from tilseg.card import Card, ClassInfo, Normalization
from tilseg.errors import InputError, ResourceError, UsageError
from tilseg.fingerprint import adopt, differences
from tilseg.georef import Georef
from tilseg.planning import make_plan
from tilseg.receptive_field import ReceptiveField
from tilseg.source import Level
from tilseg.tiling import needed_memory
from tilseg.window import Size

FIELD = ReceptiveField(92, 16, 12)


class _Image:
    """The facts of an image of any size; its pixels are zeros."""

    uri = "image"
    dtype = np.dtype(np.uint8)
    nodata = None
    georef = Georef()
    segment_bytes = 0

    def __init__(self, shape, bands=3, levels=1):
        self.shape, self.bands, self.band_names = shape, bands, ("",) * bands
        self.levels = tuple(
            Level(Size(-(-shape.rows // 2**k), -(-shape.cols // 2**k)), 2.0**k, 2.0**k)
            for k in range(levels)
        )

    def read(self, window, level=0, bands=None):
        return np.zeros((*window.size, len(bands)), self.dtype)

    def mask(self, window, level=0):
        return None


class _Network:
    """The facts of a model that takes 500 bytes a pixel."""

    uri, sha256, device, tta = "model", "0" * 64, "cpu", "none"
    field = FIELD
    card = Card(
        name="m",
        architecture="unet",
        parameters={},
        bands=3,
        head="softmax",
        normalization=Normalization(kind="constants", mean=(0, 0, 0), std=(1, 1, 1)),
        halo=92,
        stride=16,
        offset=12,
        classes=(ClassInfo(name="a", color="#000000"), ClassInfo(name="b", color="#ffffff")),
    )

    def working_bytes(self, size):
        return 500 * size.area

    def largest_input(self, processes=1):
        return 1480


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4GB", 4e9),
        ("800MB", 8e8),
        ("2GiB", 2**31),
        ("1.5g", 1.5e9),
        ("123", 123),
        ("64 KiB", 65536),
    ],
)
def test_memory_sizes(text, count):
    assert parse_memory(text) == count


@pytest.mark.parametrize("text", ["", "GB", "-4GB", "4XB", "4 4GB", "0", "iB", "4iB"])
def test_other_words_are_not_sizes(text):
    with pytest.raises(UsageError) as caught:
        parse_memory(text)
    assert caught.value.id == "E-MEMORY-SIZE"


def test_bytes_are_shown_in_decimal_units():
    assert [format_bytes(n) for n in (0, 999, 1500, 123_456_789, 4e9)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "123 MB",
        "4.0 GB",
    ]


shapes = st.builds(Size, st.integers(1, 200_000), st.integers(1, 200_000))


@given(shape=shapes, budget=st.integers(500, 8000).filter(lambda mb: mb < 730 or mb >= 1000))
@settings(max_examples=100)
def test_what_is_chosen_fits_the_budget_and_is_legal(shape, budget):
    enough = budget >= 1000
    with contextlib.nullcontext() if enough else pytest.raises(ResourceError):
        plan = make_plan(_Image(shape), _Network(), memory=budget * 10**6)
    if not enough:
        return
    grid = plan.grid
    assert needed_memory(grid, plan.lanes, _Image(shape), _Network()) <= budget * 10**6
    assert grid.shape == shape
    for step, side in zip(grid.tile, shape, strict=True):
        assert step % FIELD.stride == 0
        assert step <= FIELD.step_covering(side)
        assert FIELD.input_for(step) <= 1480
    assert max(grid.block) < 2048 + 1024


@given(shape=st.builds(Size, st.integers(1, 900), st.integers(1, 900)))
def test_a_small_image_is_one_tile_of_the_smallest_legal_size(shape):
    plan = make_plan(_Image(shape), _Network(), tile=912)
    assert plan.grid.tile == tuple(FIELD.step_covering(side) for side in shape)
    assert plan.grid.tile_counts == (1, 1)


def test_no_other_tile_computes_less():
    shape = Size(5003, 1747)
    chosen = make_plan(_Image(shape), _Network(), memory="20GB").grid
    for tile in range(16, 928, 16):
        other = make_plan(_Image(shape), _Network(), tile=tile, memory="20GB").grid
        assert chosen.redundancy <= other.redundancy


@pytest.mark.parametrize(
    ("cpus", "threads", "shape", "memory", "expected"),
    [
        (8, None, Size(9001, 9001), "40GB", (8, 1)),
        (6, None, Size(9001, 9001), "40GB", (6, 1)),
        (8, 3, Size(9001, 9001), "40GB", (2, 3)),
        (8, 16, Size(9001, 9001), "40GB", (1, 16)),
        # What does not fit, or has too few tiles, is done with fewer.
        (8, None, Size(9001, 9001), "3500MB", (2, 4)),
        (8, None, Size(4001, 4001), "40GB", (4, 2)),
        (8, None, Size(901, 701), "40GB", (1, 8)),
    ],
)
def test_as_many_predictions_at_once_as_cpus_and_memory_allow(
    monkeypatch, cpus, threads, shape, memory, expected
):
    monkeypatch.setattr("tilseg.planning.usable_cpus", lambda: cpus)
    plan = make_plan(_Image(shape), _Network(), threads=threads, memory=memory)
    assert (plan.lanes, plan.threads) == expected
    assert max(plan.grid.input) > 1100 or plan.grid.tile_counts.area == 1


def test_processes_share_the_cpus(monkeypatch):
    monkeypatch.setattr("tilseg.planning.usable_cpus", lambda: 8)
    plan = make_plan(_Image(Size(9001, 9001)), _Network(), memory="40GB", processes=3)
    assert (plan.lanes, plan.threads) == (2, 1)


def test_a_resume_keeps_its_threads_and_takes_no_more_cpus(monkeypatch):
    image = _Image(Size(9001, 9001))
    monkeypatch.setattr("tilseg.planning.usable_cpus", lambda: 16)
    first = make_plan(image, _Network(), memory="1.9GB")
    again = make_plan(image, _Network(), memory="40GB")
    assert (first.lanes, first.threads, again.lanes, again.threads) == (1, 16, 16, 1)
    assert (adopt(again, first).lanes, adopt(again, first).threads) == (1, 16)
    assert (adopt(first, again).lanes, adopt(first, again).threads) == (16, 1)


def test_a_tile_that_cannot_fit_is_refused_with_both_numbers():
    with pytest.raises(ResourceError, match=r"needs .* the budget is 750 MB"):
        make_plan(_Image(Size(5000, 5000)), _Network(), tile=1024, memory="750MB")


def test_bands_and_levels_are_checked():
    with pytest.raises(InputError, match="has 4 bands, the model wants 3"):
        make_plan(_Image(Size(50, 50), bands=4), _Network())
    assert make_plan(_Image(Size(50, 50), bands=4), _Network(), bands=(4, 2, 2)).bands == (3, 1, 1)
    with pytest.raises(UsageError, match=r"0 \(50 x 51\), 1 \(25 x 26\)"):
        make_plan(_Image(Size(51, 50), levels=2), _Network(), level=2)
    assert make_plan(_Image(Size(51, 50), levels=2), _Network(), level=1).grid.shape == (26, 25)


def test_a_tile_of_more_than_a_quarter_of_the_memory_is_refused():
    image = _Image(Size(5000, 3001))
    image.segment_bytes = 2**30 + 4
    with pytest.raises(
        ResourceError, match=r"1\.1 GB, more than a quarter .*\(1\.1 GB\)"
    ) as caught:
        make_plan(image, _Network(), memory=2**32)
    assert caught.value.id == "E-MEMORY-SEGMENT"
    small = make_plan(_Image(Size(5000, 3001)), _Network(), memory=2**33, workers=2)
    large = make_plan(image, _Network(), memory=2**33, workers=2)
    assert large.grid == small.grid
    spent = [
        needed_memory(small.grid, small.lanes, one, _Network(), 2)
        for one in (image, _Image(image.shape))
    ]
    assert spent[0] - spent[1] == 2 * image.segment_bytes


@pytest.mark.parametrize("size", ["9" * 400 + "GB", "0.1B", "0", "1e9", "-4GB", "4 Gigs", ""])
def test_what_is_no_amount_of_memory(size):
    with pytest.raises(UsageError, match="is not a size"):
        parse_memory(size)


def test_public_plan_is_this_plan():
    assert tilseg.make_plan is make_plan


def test_an_input_changed_in_place_is_told_by_what_changed():
    old = {"input": {"path": "/a/slide.tif", "size": 100, "mtime_ns": 1}, "level": 0}
    new = {"input": {"path": "/a/slide.tif", "size": 100, "mtime_ns": 2}, "level": 1}
    assert differences(old, new) == "input (mtime_ns 1 -> 2), level (0 -> 1)"
    assert differences(old, old) == ""
    # As `tilseg plan` shows sizes.
    assert differences({"tile": [64, 96]}, {"tile": [64, 48]}) == "tile (96 x 64 -> 48 x 64)"
