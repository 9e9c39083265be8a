"""What a run in integers learns before it begins, and that no tile shows in its mask either."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from tiny import noise, save_tiny_model, tiny_plan

import tilseg
from tilseg import exactness
from tilseg.calibration import calibrated, windows
from tilseg.card import Normalization
from tilseg.errors import InputError, ModelError, Stopped
from tilseg.fingerprint import adopt, fingerprint, plan_from_json, plan_to_json
from tilseg.models import int8
from tilseg.plan import TileGrid
from tilseg.receptive_field import ReceptiveField
from tilseg.selection import EVERYTHING, Selection, TissueMask
from tilseg.sinks.zarr import MaskStore
from tilseg.window import Size, Window

pytestmark = pytest.mark.skipif(not int8.here(), reason="this processor has no AVX-512 VNNI")
SHAPE = (211, 307)
GRID = TileGrid(Size(53, 67), ReceptiveField(44, 8, 4), Size(8, 8), Size(1, 1))
PLAN = tiny_plan(GRID, precision="int8")


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    tifffile.imwrite(folder / "image.tif", noise(*SHAPE), tile=(64, 64), photometric="rgb")
    save_tiny_model(folder / "tiny.safetensors", classes=3)
    return folder


def plan_of(desk: Path, image="image.tif", precision="int8", tile=64, **choices):
    source = tilseg.open_source(desk / image)
    model = tilseg.load_model(desk / "tiny.safetensors", device="cpu", precision=precision)
    choices = {"regions": None, "memory": "2GB", "threads": 1, **choices}
    return tilseg.make_plan(source, model, tile=tile, precision=precision, **choices)


def mask_of(output: Path) -> np.ndarray:
    store = MaskStore.open(output / "mask.zarr")
    return store.read(Window.whole(store.shape))


def test_the_mask_is_that_of_the_whole_image_in_any_tiles(desk, tmp_path):
    masks = []
    for tile in (36, 64, 4096):
        tilseg.run(plan_of(desk, tile=tile), tmp_path / f"{tile}.tilseg", outputs=("zarr",))
        masks.append(mask_of(tmp_path / f"{tile}.tilseg"))
    assert len(np.unique(masks[0])) == 3
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


def test_what_differs_from_float32_is_measured_and_recorded(desk, tmp_path, monkeypatch):
    monkeypatch.setattr(exactness, "_SHARE", 1)  # of the run: all of the image is compared
    plan = plan_of(desk)
    tilseg.run(plan, tmp_path / "int8.tilseg", outputs=("zarr",))
    tilseg.run(plan_of(desk, precision="fp32"), tmp_path / "fp32.tilseg", outputs=("zarr",))
    differs = mask_of(tmp_path / "int8.tilseg") != mask_of(tmp_path / "fp32.tilseg")
    receipt = json.loads((tmp_path / "int8.tilseg" / "run.json").read_text())
    assert receipt["inexact"]["precision"] == {
        "precision": "int8",
        "pieces": plan.grid.tile_counts.area,
        "pixels": differs.size,
        "labels": differs.mean(),
    }
    assert 0 < differs.mean() < 0.1
    assert plan_from_json(receipt["plan"]).ranges == plan.ranges


def test_a_stopped_run_is_continued_to_the_same_mask(desk, tmp_path):
    tilseg.run(plan_of(desk), tmp_path / "once.tilseg", outputs=("zarr",))
    seen = []
    with pytest.raises(Stopped):
        tilseg.run(
            plan_of(desk), tmp_path / "twice.tilseg", outputs=("zarr",), progress=seen.append,
            stop=lambda: sum(step.phase == "predict" for step in seen) > 2,
        )  # fmt: skip
    report = tilseg.run(plan_of(desk), tmp_path / "twice.tilseg", outputs=("zarr",))
    assert report.kept > 0
    once, twice = mask_of(tmp_path / "once.tilseg"), mask_of(tmp_path / "twice.tilseg")
    np.testing.assert_array_equal(twice, once)


def test_ranges_are_frozen_at_the_first_start(desk):
    first = plan_of(desk)
    other = replace(first, ranges=tuple((low, 2 * high) for low, high in first.ranges))
    prints = [fingerprint(plan, {}, ()) for plan in (first, other, adopt(other, first))]
    assert prints[0] != prints[1]
    assert prints[0] == prints[2]
    assert plan_from_json(json.loads(json.dumps(plan_to_json(first)))) == first
    half = plan_of(desk, precision="bf16")
    assert adopt(half, first).ranges == half.ranges == ()


def test_they_depend_on_no_tile_and_no_block(desk):
    assert plan_of(desk, tile=36).ranges == plan_of(desk, tile=64, memory="4GB").ranges


def test_an_image_that_cannot_be_read_is_named(desk):
    tifffile.imwrite(desk / "broken.tif", noise(*SHAPE), tile=(64, 64), compression="deflate")
    plan = plan_of(desk, "broken.tif", precision="fp32")
    with tifffile.TiffFile(desk / "broken.tif") as file:
        (page,) = file.pages
        parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    content = bytearray((desk / "broken.tif").read_bytes())
    for start, count in parts:
        content[start : start + count] = bytes(count)
    (desk / "broken.tif").write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.tif"):
        calibrated(plan, tilseg.open_source(desk / "broken.tif"))


def test_an_image_on_which_the_network_overflows_is_refused(desk):
    pixels = noise(*SHAPE).astype(np.float32)
    tifffile.imwrite(desk / "huge.tif", pixels * 1e36, photometric="rgb")
    tiny = Normalization(kind="constants", mean=(0.0,) * 3, std=(1e-3,) * 3)
    save_tiny_model(desk / "narrow.safetensors", normalization=tiny)
    source = tilseg.open_source(desk / "huge.tif")
    model = tilseg.load_model(desk / "narrow.safetensors", device="cpu", precision="int8")
    with pytest.raises(ModelError, match="gives NaN or infinity; use --precision fp32"):
        tilseg.make_plan(source, model, precision="int8", memory="2GB")


@given(
    rows=st.integers(1, 9000),
    cols=st.integers(1, 9000),
    tissue=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), max_size=3),
    tile=st.integers(1, 99),
)
def test_windows_hold_what_is_segmented_and_are_spread(rows, cols, tissue, tile):
    mask = np.zeros((31, 41), np.bool_)
    for place in tissue:
        mask[place] = True
    selection = Selection(tissue=TissueMask.of(mask, "auto")) if tissue else EVERYTHING
    grid = replace(PLAN.grid, shape=Size(rows, cols), tile=Size(8 * tile, 8 * tile))
    plan = replace(PLAN, grid=grid, selection=selection)
    found = windows(plan)
    assert len(found) <= 16
    if not tissue:
        cells = min(8, -(-rows // 128)) * min(8, -(-cols // 128))
        share = sum(window.size.area for window in found) / (rows * cols)
        assert 1 <= len(found) <= cells
        assert len(found) == min(4, cells) or share <= 1 / 20
    # The mask is stretched: each pixel has the value at its centre.
    down, right = (
        (2 * np.arange(side) + 1) * cells // (2 * side)
        for side, cells in zip(grid.shape, mask.shape, strict=True)
    )
    wanted = mask[np.ix_(down, right)]
    for window in found:
        assert Window.whole(grid.shape).contains(window)
        assert max(window.size) <= 128
        assert not tissue or wanted[window.slices].any()
