"""`tilseg run` as a user types it: results, resumption, refusals."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
import zarr
from forking import Command
from tiny import commands, noise, save_tiny_model, tilseg, tree, typed

from tilseg.cli.main import main

SHAPE = (701, 523)
OPTIONS = ("--tile", "64", "--threads", "1")


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder with an image and models."""
    folder = tmp_path_factory.mktemp("desk")
    save_tiny_model(folder / "tiny.safetensors", classes=3)
    save_tiny_model(folder / "other.safetensors", classes=3, seed=1)
    save_tiny_model(folder / "four.safetensors", bands=4)
    tifffile.imwrite(folder / "image.tif", noise(*SHAPE), tile=(128, 128), photometric="rgb")
    return folder


@pytest.fixture(scope="module")
def undisturbed(desk) -> Path:
    order = ("run", "image.tif", "--model", "tiny.safetensors", *OPTIONS, "-o", "whole.tilseg")
    typed(*order, cwd=desk).check_returncode()
    return desk / "whole.tilseg"


def test_result_holds_what_it_says(desk, undisturbed):
    assert sorted(path.name for path in undisturbed.iterdir()) == [
        "mask.tif",
        "mask.zarr",
        "regions.csv",
        "regions.parquet",
        "report.html",
        "run.json",
        "summary.json",
    ]
    mask = zarr.open_group(undisturbed / "mask.zarr", mode="r")["0"][:]
    assert mask.shape == SHAPE
    with tifffile.TiffFile(undisturbed / "mask.tif") as tif:
        np.testing.assert_array_equal(tif.series[0].levels[0].asarray(), mask)
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert [info["pixels"] for info in summary["classes"]] == np.bincount(
        mask.ravel(), minlength=3
    ).tolist()
    assert all(info["pixels"] for info in summary["classes"])
    assert summary["nodata_pixels"] == 0
    assert (summary["width"], summary["height"]) == SHAPE[::-1]
    blocks = summary["blocks"]
    assert blocks["done"] == blocks["total"] > 10
    assert {path.name for path in desk.glob(".*")} == set()


def test_second_call_has_nothing_to_do(desk, undisturbed):
    before = tree(undisturbed, without=())
    again = typed(
        "run", "image.tif", "--model", "tiny.safetensors", *OPTIONS, "-o", "whole.tilseg", cwd=desk
    )
    assert again.returncode == 0
    assert "nothing to do" in again.stdout
    assert tree(undisturbed, without=()) == before


def test_json_is_the_summary(desk, undisturbed):
    again = tilseg(
        "run",
        "image.tif",
        "--model",
        "tiny.safetensors",
        *OPTIONS,
        "-o",
        "whole.tilseg",
        "--json",
        cwd=desk,
    )
    assert json.loads(again.stdout) == json.loads((undisturbed / "summary.json").read_text())


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("--model", "other.safetensors", "--tile", "64"), "model"),
        (("--model", "tiny.safetensors", "--tile", "68"), "tile (64 x 64 -> 68 x 68)"),
        (
            ("--model", "tiny.safetensors", "--tile", "64", "--bands", "3,2,1"),
            "bands (1,2,3 -> 3,2,1)",
        ),
        (("--model", "tiny.safetensors", "--tile", "64", "--precision", "bf16"), "precision"),
    ],
)
def test_another_run_is_refused_naming_the_field(desk, undisturbed, options, field):
    before = tree(undisturbed, without=())
    refused = tilseg("run", "image.tif", *options, "--threads", "1", "-o", "whole.tilseg", cwd=desk)
    assert refused.returncode == 10
    assert refused.stderr.startswith("error[E-EXISTS]")
    assert field in refused.stderr
    assert tree(undisturbed, without=()) == before


def _start(desk: Path, output: str) -> Command:
    order = ("run", "image.tif", "--model", "tiny.safetensors", *OPTIONS, "-o", output)
    return commands().start(*order, cwd=desk)


def _journal(desk: Path, output: str) -> int:
    """Lines in the journal of an unfinished run."""
    path = desk / f".{output}.partial" / "journal-0.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killed_ten_times_ends_in_the_same_bytes(desk, undisturbed):
    rng = random.Random(7)
    kills = 0
    while kills < 10:
        process = _start(desk, "killed.tilseg")
        goal = _journal(desk, "killed.tilseg") + rng.randint(1, 9)
        while process.poll() is None and _journal(desk, "killed.tilseg") < goal:
            assert not (desk / "killed.tilseg").exists()
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        if process.wait() == 0:
            break
        kills += 1
    last = _start(desk, "killed.tilseg")
    assert last.wait() == 0, last.stderr
    assert kills >= 3
    assert tree(desk / "killed.tilseg") == tree(undisturbed)
    kept = json.loads((desk / "killed.tilseg" / "summary.json").read_text())["blocks"]["kept"]
    assert kept > 0
    assert not list(desk.glob(".killed*"))


@pytest.mark.parametrize(
    ("options", "field"),
    [(("--model", "other.safetensors"), "model"), (("--tile", "128"), "tile")],
)
def test_an_unfinished_run_is_not_mixed_with_another(desk, undisturbed, options, field):
    name = f"mixed-{field}.tilseg"
    process = _start(desk, name)
    while process.poll() is None and _journal(desk, name) < 4:
        time.sleep(0.002)
    process.kill()
    process.wait()
    refused = tilseg(
        "run", "image.tif", "--model", "tiny.safetensors", *OPTIONS, *options, "-o", name, cwd=desk
    )
    assert refused.returncode == 10
    assert refused.stderr.startswith("error[E-PARTIAL]")
    assert f"{field} (" in refused.stderr
    done = tilseg("run", "image.tif", "--model", "tiny.safetensors", *OPTIONS, "-o", name, cwd=desk)
    assert done.returncode == 0
    assert tree(desk / name) == tree(undisturbed)


@pytest.mark.parametrize(
    "options", [("--workers", "1"), ("--workers", "5"), ("--processes", "--workers", "2")]
)
def test_labels_do_not_depend_on_workers(desk, undisturbed, options):
    name = f"w{''.join(options)}.tilseg"
    done = tilseg(
        "run", "image.tif", "--model", "tiny.safetensors", *OPTIONS, *options, "-o", name, cwd=desk
    )
    assert done.returncode == 0, done.stderr
    assert tree(desk / name) == tree(undisturbed)


@pytest.mark.parametrize("name", ["alone.tif", "alone.zarr"])
def test_a_single_file_has_its_receipt_beside_it(desk, undisturbed, name):
    done = tilseg("run", "image.tif", "--model", "tiny.safetensors", *OPTIONS, "-o", name, cwd=desk)
    assert done.returncode == 0, done.stderr
    assert json.loads((desk / f"{name}.json").read_text())["summary"]["blocks"]["failed"] == 0
    whole = undisturbed / f"mask{Path(name).suffix}"
    if whole.is_file():
        assert (desk / name).read_bytes() == whole.read_bytes()
    else:
        assert tree(desk / name) == tree(whole)
    assert tilseg("verify", name, cwd=desk).returncode == 0
    assert not list(desk.glob(".alone*"))


def test_georeferenced_mask_comes_back_on_the_inputs_grid(desk, sample_data):
    done = tilseg(
        "run",
        sample_data / "scene.tif",
        "--model",
        "four.safetensors",
        "--tile",
        "256",
        "-o",
        "scene.tilseg",
        cwd=desk,
    )
    assert done.returncode == 0, done.stderr
    with (
        rasterio.open(sample_data / "scene.tif") as image,
        rasterio.open(desk / "scene.tilseg" / "mask.tif") as mask,
    ):
        assert (mask.shape, mask.crs, mask.transform) == (image.shape, image.crs, image.transform)
        assert mask.nodata == 255
        np.testing.assert_array_equal(mask.read(1) == 255, image.dataset_mask() == 0)


def _bad_inputs(desk: Path) -> dict[str, tuple[tuple[str, ...], int, str]]:
    (desk / "empty.tif").touch()
    (desk / "text.tif").write_text("hello, I am not an image\n")
    (desk / "folder.tif").mkdir(exist_ok=True)
    content = (desk / "image.tif").read_bytes()
    (desk / "truncated.tif").write_bytes(content[: len(content) // 2])
    (desk / "junk.safetensors").write_bytes(os.urandom(300))
    good = ("image.tif", "--model", "tiny.safetensors")
    return {
        "missing": (("nowhere.tif",), 4, "E-INPUT-MISSING"),
        "directory": (("folder.tif",), 4, "E-INPUT-DIRECTORY"),
        "empty": (("empty.tif",), 4, "E-INPUT-EMPTY"),
        "text": (("text.tif",), 4, "E-INPUT-FORMAT"),
        "truncated": (("truncated.tif",), 4, "E-INPUT-TRUNCATED"),
        "tile": ((*good, "--tile", "390"), 2, "E-TILE-STEP"),
        "negative tile": ((*good, "--tile", "-4"), 2, "E-TILE-SIZE"),
        "unknown model": (("image.tif", "--model", "nucleii"), 6, "E-MODEL-MISSING"),
        "junk model": (("image.tif", "--model", "junk.safetensors"), 6, "E-MODEL-FORMAT"),
        "bands": (("image.tif", "--model", "four.safetensors"), 4, "E-INPUT-BANDS"),
        "no such band": ((*good, "--bands", "1,2,9"), 4, "E-INPUT-BAND"),
        "band list": ((*good, "--bands", "red"), 2, "E-BAND-LIST"),
        "level": ((*good, "--level", "7"), 2, "E-LEVEL"),
        "cuda": ((*good, "--device", "cuda:77"), 8, "E-NO-CUDA"),
        "memory": ((*good, "--memory", "10MB"), 8, "E-MEMORY"),
        "memory words": ((*good, "--memory", "lots"), 2, "E-MEMORY-SIZE"),
        "option": ((*good, "--tiles", "64"), 2, "E-USAGE"),
        "outputs": ((*good, "--outputs", "png"), 2, "E-OPTION"),
        "foreign output": ((*good, "-o", "folder.tif"), 10, "E-EXISTS-FOREIGN"),
        "no such folder": ((*good, "-o", "no/where/x.tilseg"), 7, "E-OUTPUT-PARENT"),
        "output is input": ((*good, "-o", "image.tif"), 7, "E-OUTPUT-INPUT"),
        "scheduler": ((*good, "--scheduler", "nowhere.json"), 8, "E-SCHEDULER"),
    }


def test_bad_input_gets_one_line_the_right_code_and_leaves_nothing(
    desk, undisturbed, monkeypatch, capsys
):
    # In this process, where twenty refusals cost what one costs as a command of its own.
    monkeypatch.chdir(desk)
    cases = _bad_inputs(desk)
    before = {path.name for path in desk.iterdir()}
    for name, (arguments, code, id) in cases.items():
        with pytest.raises(SystemExit) as ended:
            main(["run", *arguments])
        printed = capsys.readouterr()
        assert (ended.value.code, printed.err.split("]")[0]) == (code, f"error[{id}"), name
        assert printed.err.count("\n") == 1, name
        assert printed.out == "", name
        assert {path.name for path in desk.iterdir()} == before, name


def test_a_refusal_of_the_command_itself(desk):
    refused = typed("run", "image.tif", "--model", "tiny.safetensors", "--tile", "390", cwd=desk)
    assert refused.returncode == 2
    assert refused.stderr == (
        "error[E-TILE-STEP]: tile 390 is not a multiple of the model's stride 4; use 388 or 392\n"
    )


def test_config_file_sets_options_and_refuses_unknown_ones(desk, undisturbed):
    config = desk / "job.toml"
    config.write_text(
        'model = "tiny.safetensors"\ntile = 64\nthreads = 1\noutput = "whole.tilseg"\n'
    )
    done = tilseg("run", "image.tif", "--config", "job.toml", cwd=desk)
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout
    for text, words in [
        ("modle = 'x'", "did you mean 'model'"),
        ("tile =", "line 1 (tile =)"),
        ("[tile]\nx=1", "tile is a table"),
    ]:
        config.write_text(text)
        refused = tilseg("run", "image.tif", "--config", "job.toml", cwd=desk)
        assert refused.returncode == 2
        assert words in refused.stderr


def test_plan_says_what_run_would_do(desk):
    facts = json.loads(
        tilseg(
            "plan",
            "image.tif",
            "--model",
            "tiny.safetensors",
            *OPTIONS,
            "--json",
            cwd=desk,
            check=True,
        ).stdout
    )
    assert facts["tile"] == [64, 64]
    assert facts["tiles"] == 11 * 9
    refused = tilseg("plan", "image.tif", "--model", "tiny.safetensors", "--tile", "65", cwd=desk)
    assert refused.returncode == 2
    assert "use 64 or 68" in refused.stderr


def test_info_says_what_a_file_holds(desk, sample_data):
    facts = json.loads(
        tilseg("info", sample_data / "scene.tif", "--json", cwd=desk, check=True).stdout
    )
    with rasterio.open(sample_data / "scene.tif") as image:
        assert (facts["height"], facts["width"]) == image.shape
        assert facts["bands"] == image.count
        assert facts["nodata"] == image.nodata
        assert facts["transform"] == list(image.transform)[:6]


def test_verify_names_what_was_changed(desk, undisturbed):
    shutil.copytree(undisturbed, desk / "rotten.tilseg")
    assert tilseg("verify", "rotten.tilseg", cwd=desk).returncode == 0
    shard = next((desk / "rotten.tilseg" / "mask.zarr" / "0" / "c").rglob("1"))
    target = shard if shard.is_file() else next(path for path in shard.rglob("*") if path.is_file())
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(content)
    (desk / "rotten.tilseg" / "summary.json").unlink()
    found = tilseg("verify", "rotten.tilseg", cwd=desk)
    assert found.returncode == 12
    assert "summary.json is missing" in found.stdout
    assert f"{target.relative_to(desk / 'rotten.tilseg')} is damaged (block " in found.stdout


def test_an_inexact_model_needs_permission_and_its_cost_is_recorded(desk):
    save_tiny_model(desk / "corners.safetensors", padding="same", upsampling="bilinear-corners")
    run = ("run", "image.tif", "--model", "corners.safetensors", "--tile", "128", "-o", "in.tilseg")
    refused = tilseg(*run, cwd=desk)
    assert refused.returncode == 6
    assert refused.stderr.startswith("error[E-MODEL-INEXACT]")
    assert "align_corners" in refused.stderr
    done = tilseg(*run, "--allow-inexact", cwd=desk)
    assert done.returncode == 0, done.stderr
    found = json.loads((desk / "in.tilseg" / "run.json").read_text())["inexact"]
    recorded = found["tiling"]
    assert found["precision"] is None
    assert recorded["tiles"] == [128, 64]
    assert recorded["score"] > 0
    assert 0 <= recorded["labels"] < 1


def test_probabilities_agree_with_the_mask(desk, sample_data):
    run = ("run", "--tile", "256", "--probabilities", "-o", "likely.tilseg")
    done = tilseg(*run, sample_data / "scene.tif", "--model", "four.safetensors", cwd=desk)
    assert done.returncode == 0, done.stderr
    result = desk / "likely.tilseg"
    mask = zarr.open_group(result / "mask.zarr", mode="r")["0"][:]
    likely = zarr.open_group(result / "probabilities.zarr", mode="r")["0"][:]
    valid = mask != 255
    assert (likely[:, ~valid] == 0).all()
    assert np.isin(likely.sum(axis=0, dtype=int)[valid], (254, 255, 256)).all()
    certain = valid & (np.abs(likely[0].astype(int) - likely[1]) > 1)
    np.testing.assert_array_equal(mask[certain], likely.argmax(axis=0)[certain])
    with rasterio.open(result / "probabilities.tif") as file:
        np.testing.assert_array_equal(file.read(), likely)
    assert tilseg("verify", "likely.tilseg", cwd=desk).returncode == 0
    refused = tilseg(
        "run",
        "image.tif",
        "--model",
        "tiny.safetensors",
        "--probabilities",
        "-o",
        "p.tif",
        cwd=desk,
    )
    assert refused.returncode == 2
