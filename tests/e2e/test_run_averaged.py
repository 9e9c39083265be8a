"""`tilseg run --tta d4`: the same for any tile, with everything else a run does; and recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from tiny import STEADY, noise, save_tiny_model, tilseg

import tilseg as api
from tilseg.errors import UsageError


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    save_tiny_model(folder / "tiny.safetensors", classes=3, normalization=STEADY)
    tifffile.imwrite(
        folder / "image.tif",
        noise(157, 211),
        photometric="rgb",
        resolution=(20000, 20000),
        resolutionunit="CENTIMETER",
    )
    return folder


def _run(desk, output, *options, check=True):
    command = ("run", "image.tif", "--model", "tiny.safetensors", "--threads", "1", "-o", output)
    return tilseg(*command, *options, cwd=desk, check=check)


def _array(desk, output, name):
    return zarr.open_group(desk / output / f"{name}.zarr", mode="r")["0"][:]


def test_the_mask_does_not_depend_on_the_tile(desk):
    # Resampled, several blocks at once, and a tile that is not square.
    (desk / "job.toml").write_text('tta = "d4"\nprobabilities = true\n')
    common = ("--config", "job.toml", "--pixel-size", "0.25um", "--mpp", "0.31um")
    common += ("--instances", "watershed", "--outputs", "zarr")
    _run(desk, "small.tilseg", *common, "--tile", "16", "--workers", "3")
    _run(desk, "large.tilseg", *common, "--tile", "512")
    likely = [
        _array(desk, name, "probabilities").astype(int) for name in ("small.tilseg", "large.tilseg")
    ]
    assert np.abs(likely[0] - likely[1]).max() <= 1
    best = np.sort(likely[0], axis=0)
    certain = best[-1] - best[-2] > 2
    assert certain.mean() > 0.9
    masks = [_array(desk, name, "mask") for name in ("small.tilseg", "large.tilseg")]
    np.testing.assert_array_equal(masks[0][certain], masks[1][certain])
    np.testing.assert_array_equal(masks[1][certain], likely[1].argmax(axis=0)[certain])
    tiles = [
        json.loads((desk / n / "summary.json").read_text())["tile"]
        for n in ("small.tilseg", "large.tilseg")
    ]
    assert tiles[0] == [16, 16]
    assert tiles[1][0] != tiles[1][1]


def test_it_is_recorded_and_is_another_run(desk):
    plain = ("--tile", "64", "--outputs", "zarr", "--no-regions")
    _run(desk, "own.tilseg", *plain, "--tta", "d4")
    receipt = json.loads((desk / "own.tilseg" / "run.json").read_text())
    assert receipt["fingerprint"]["tta"] == receipt["plan"]["tta"] == "d4"
    again = _run(desk, "own.tilseg", *plain, check=False)
    assert again.returncode == 10
    assert "tta (d4 -> none)" in again.stderr
    _run(desk, "plain.tilseg", *plain)
    assert (_array(desk, "own.tilseg", "mask") != _array(desk, "plain.tilseg", "mask")).any()
    summaries = [
        json.loads((desk / name / "summary.json").read_text())
        for name in ("own.tilseg", "plain.tilseg")
    ]
    assert [each["tta"] for each in summaries] == ["d4", "none"]
    assert summaries[0]["redundancy"] == pytest.approx(8 * summaries[1]["redundancy"], rel=1e-3)


def test_a_plan_tells_what_it_costs(desk):
    def facts(*options):
        command = ("plan", "image.tif", "--model", "tiny.safetensors", "--tile", "64", "--json")
        return json.loads(tilseg(*command, *options, cwd=desk, check=True).stdout)

    plain, averaged = facts(), facts("--tta", "d4")
    assert (plain["tta"], averaged["tta"]) == ("none", "d4")
    assert averaged["redundancy"] == pytest.approx(8 * plain["redundancy"], rel=1e-3)
    assert averaged["memory_bytes"] > plain["memory_bytes"]


def test_a_word_that_is_no_group_is_refused(desk):
    with pytest.raises(UsageError, match="none, d4"):
        api.load_model(desk / "tiny.safetensors", tta="d8")
