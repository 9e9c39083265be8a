"""What is recorded of precision, against two whole masks of the same image."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tiny import STEADY, noise, save_tiny_model

import tilseg
from tilseg import exactness
from tilseg.exactness import inexactness, pieces
from tilseg.sinks.zarr import MaskStore
from tilseg.window import Size, Window

SHAPE = (211, 307)


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("precision")
    tifffile.imwrite(folder / "image.tif", noise(*SHAPE), tile=(64, 64), photometric="rgb")
    save_tiny_model(folder / "tiny.safetensors")
    return folder


def plan_of(desk: Path, precision: str, **choices):
    source = tilseg.open_source(desk / "image.tif")
    model = tilseg.load_model(desk / "tiny.safetensors", device="cpu", precision=precision)
    plan = tilseg.make_plan(
        source, model, tile=64, precision=precision, regions=None, memory="2GB", **choices
    )
    return source, model, plan


def mask_of(plan, output: Path) -> np.ndarray:
    tilseg.run(plan, output, outputs=("zarr",))
    store = MaskStore.open(output / "mask.zarr")
    return store.read(Window.whole(store.shape))


def test_a_run_in_float32_has_nothing_to_tell(desk):
    source, model, plan = plan_of(desk, "fp32")
    assert inexactness(plan, source, model.card) is None


def test_the_share_of_other_labels_is_that_of_two_masks(desk, tmp_path, monkeypatch):
    monkeypatch.setattr(exactness, "_SHARE", 1)
    source, model, plan = plan_of(desk, "bf16")
    # Pieces are no larger than tiles, so that all of the image is compared.
    assert plan.grid.tile == (64, 64)
    _, _, exact = plan_of(desk, "fp32")
    found = inexactness(plan, source, model.card)
    one, other = mask_of(plan, tmp_path / "half"), mask_of(exact, tmp_path / "whole")
    assert found == {
        "tiling": None,
        "precision": {
            "precision": "bf16",
            "pieces": 20,
            "pixels": one.size,
            "labels": np.count_nonzero(one != other) / one.size,
        },
    }
    assert 0 < found["precision"]["labels"] < 0.1


def test_what_is_not_computed_is_not_compared(desk, monkeypatch):
    monkeypatch.setattr(exactness, "_SHARE", 1)
    roi = desk / "roi.geojson"
    ring = [[0, 0], [90, 0], [90, 90], [0, 90], [0, 0]]
    roi.write_text(
        '{"type": "Feature", "properties": {}, "geometry": '
        f'{{"type": "Polygon", "coordinates": [{ring}]}}}}'
    )
    source, model, plan = plan_of(desk, "bf16", roi=roi)
    found = inexactness(plan, source, model.card)
    # Four tiles of 64 hold pixels of the 90 x 90 corner; of 20.
    assert found["precision"]["pieces"] == 4
    assert found["precision"]["pixels"] == 128 * 128


@pytest.mark.parametrize("corner", [(70, 75), (126, 190), (3, 250)])
def test_the_little_that_is_segmented_is_found(desk, monkeypatch, corner):
    """Of so many tiles that not all of them are looked at."""
    monkeypatch.setattr(exactness, "_PIECES_LOOKED_AT", 2)
    row, col = corner
    ring = [[col, row], [col + 4, row], [col + 4, row + 4], [col, row + 4], [col, row]]
    roi = desk / "small.geojson"
    roi.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    source, model, plan = plan_of(desk, "bf16", roi=roi)
    found = inexactness(plan, source, model.card)
    assert found["precision"]["pieces"] == 1
    (piece,) = pieces(plan)
    inside = piece.write.intersection(Window(row, col, 4, 4))
    assert inside.size.area > 0


@pytest.mark.parametrize("shape", [(211, 307), (8009, 7993), (60_013, 89_989)])
def test_little_of_a_run_is_compared(desk, shape):
    _, _, plan = plan_of(desk, "bf16")
    grid = replace(plan.grid, shape=Size(*shape), tile=Size(1024, 768))
    compared = pieces(replace(plan, grid=grid))
    run = grid.tile_counts.area * grid.input.area
    assert len(compared) == 1 or sum(piece.read.size.area for piece in compared) <= run / 200
    assert len(compared) <= 64
    for piece in compared:
        assert piece.write.row % 256 == piece.write.col % 256 == 0
        assert Window.whole(grid.shape).contains(piece.write)
    assert len({piece.write for piece in compared}) == len(compared)


def test_the_receipt_holds_it(desk, tmp_path):
    _, _, plan = plan_of(desk, "bf16")
    tilseg.run(plan, tmp_path / "out", outputs=("zarr",))
    recorded = json.loads((tmp_path / "out" / "run.json").read_text())["inexact"]
    assert recorded["tiling"] is None
    assert recorded["precision"]["precision"] == "bf16"
    assert 0 <= recorded["precision"]["labels"] < 0.1


def test_where_the_middle_cannot_be_read_tiling_is_measured_elsewhere(desk):
    pixels = noise(467, 331)
    tifffile.imwrite(
        desk / "holed.tif", pixels, tile=(64, 64), photometric="rgb", compression="zlib"
    )
    with tifffile.TiffFile(desk / "holed.tif") as file:
        page = file.pages[0]
        offsets, counts = page.dataoffsets, page.databytecounts
    parameters = {"padding": "same", "upsampling": "bilinear-corners"}
    save_tiny_model(desk / "inexact.safetensors", normalization=STEADY, **parameters)
    model = tilseg.load_model(desk / "inexact.safetensors", device="cpu")

    def found() -> object:
        source = tilseg.open_source(desk / "holed.tif")
        plan = tilseg.make_plan(
            source, model, tile=64, regions=None, memory="2GB", allow_inexact=True
        )
        return inexactness(plan, source, model.card)

    def spoil(*tiles: int) -> None:
        with (desk / "holed.tif").open("r+b") as file:
            for tile in tiles:
                file.seek(offsets[tile])
                file.write(bytes(counts[tile]))

    across = 6  # tiles of 64 in 331 columns
    spoil(3 * across + 2)
    assert found()["tiling"]["labels"] >= 0
    spoil(*range(len(offsets)))
    assert found() is None


def test_many_other_labels_are_a_warning(desk, monkeypatch, caplog):
    source, model, plan = plan_of(desk, "bf16")
    caplog.set_level("INFO", "tilseg")
    inexactness(plan, source, model.card)
    monkeypatch.setattr(exactness, "_MUCH", -1)
    inexactness(plan, source, model.card)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert "use --precision fp32" in caplog.records[1].message
