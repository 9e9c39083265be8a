"""Outputs stay apart from inputs, and from what tilseg did not make."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tilseg.errors import ExistsError, OutputError
from tilseg.ownership import check_apart, check_nothing_added, check_ours


@pytest.fixture
def image(tmp_path) -> Path:
    """A file and a folder to be read, and links to them."""
    path = tmp_path / "data" / "image.tif"
    path.parent.mkdir()
    path.write_bytes(b"II*\0")
    (tmp_path / "soft.tif").symlink_to(path)
    os.link(path, tmp_path / "hard.tif")
    (tmp_path / "shelf").symlink_to(path.parent)
    return path


@pytest.mark.parametrize(
    "place",
    ["data/image.tif", "data/../data/image.tif", "soft.tif", "hard.tif", "data", "shelf",
     "shelf/image.tif", "data/image.tif/out.tilseg", "soft.tif/out.tilseg", "."],
)  # fmt: skip
def test_an_output_that_touches_an_input_is_refused(tmp_path, image, place):
    for named in (image, tmp_path / "soft.tif", tmp_path / "hard.tif"):
        hard = named.name == "hard.tif"
        if hard and place not in ("hard.tif", "data/image.tif", "."):
            continue
        with pytest.raises(OutputError, match="would touch the input") as caught:
            check_apart([tmp_path / "new.tilseg", tmp_path / place], [named])
        assert caught.value.id == "E-OUTPUT-INPUT"


@pytest.mark.parametrize("place", ["new.tilseg", "data/new.tilseg", "image.tif", "other/image.tif"])
def test_an_output_of_its_own_is_allowed(tmp_path, image, place):
    check_apart([tmp_path / place], [image, tmp_path / "gone.safetensors"])


def test_every_file_of_a_result_must_be_in_its_receipt(tmp_path):
    (tmp_path / "mask.zarr" / "c").mkdir(parents=True)
    (tmp_path / "mask.zarr" / "c" / "0").touch()
    (tmp_path / "run.json").touch()
    named = ["run.json", "mask.zarr/c/0", "gone.csv"]
    check_nothing_added(tmp_path, named)
    check_nothing_added(tmp_path, None)
    check_nothing_added(tmp_path / "nowhere", named)
    check_nothing_added(tmp_path / "mask.zarr", ["mask.zarr/c/0"], prefix="mask.zarr")
    (tmp_path / "mask.zarr" / "c" / "mine").symlink_to("/nowhere")
    with pytest.raises(ExistsError, match=r"holds mask.zarr/c/mine,"):
        check_nothing_added(tmp_path, named)
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ExistsError, match=r"holds notes.txt,"):
        check_nothing_added(tmp_path, None)


def test_a_hidden_place_is_known_by_what_it_holds(tmp_path):
    for name in ("result", "plan.json", "journal-0.jsonl", "regions.parquet", "zarr.json", "3"):
        folder = tmp_path / f".{name}.partial"
        folder.mkdir()
        check_ours(folder)
        (folder / "stray").touch()
        with pytest.raises(ExistsError):
            check_ours(folder)
        (folder / name).touch()
        check_ours(folder)
    check_ours(tmp_path / "nowhere")
