"""What can be looked at: whole results, single files, runs under way, masks without their image."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio.warp
from tiny import save_tiny_model, tilseg
from viewing import COLS, ROWS, finished, get, picture, rgba, serving

import tilseg as package
from tilseg.durable import seal, unseal
from tilseg.errors import InputError, Stopped
from tilseg.view.result import open_result
from tilseg.view.server import Viewer
from tilseg.view.session import Session
from tilseg.window import Window


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with an image, a model and a result; copy it before changing it."""
    folder = tmp_path_factory.mktemp("made")
    finished(folder)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


@pytest.fixture
def opened():
    """Sessions that end with the test."""
    sessions: list[Session] = []

    def open_session(output: Path) -> Session:
        sessions.append(Session(output))
        return sessions[-1]

    yield open_session
    for session in sessions:
        session.stop()


def plan_of(folder: Path, *, tile: int = 200, **options):
    source = package.open_source(folder / "slide.tif")
    model = package.load_model(folder / "tiny.safetensors")
    plan = package.make_plan(source, model, tile=tile, **options)
    source.close()
    return plan


def test_a_result_says_what_it_is(folder, opened):
    about = opened(folder / "slide.tilseg").about()
    assert (about["rows"], about["cols"]) == (ROWS, COLS)
    assert about["metres"] == [0.25e-6, 0.25e-6]
    assert about["image"]
    assert about["finished"]
    assert about["notices"] == []
    assert [each["name"] for each in about["classes"]] == ["class 0", "class 1", "class 2"]
    assert [each["background"] for each in about["classes"]] == [True, False, False]
    assert sum(each["fraction"] for each in about["classes"]) == pytest.approx(1)
    assert about["regions"] > 0
    assert about["columns"][:2] == ["label", "class"]


def test_an_image_moved_with_its_result_is_found_beside_it(made, tmp_path, opened):
    shutil.copytree(made / "slide.tilseg", tmp_path / "slide.tilseg")
    shutil.copy(made / "slide.tif", tmp_path / "slide.tif")
    os.rename(made / "slide.tif", made / "away.tif")
    try:
        session = opened(tmp_path / "slide.tilseg")
    finally:
        os.rename(made / "away.tif", made / "slide.tif")
    assert session.state()["notices"] == []
    assert session.image_tile(0, 0, 0) is not None


def test_without_its_image_the_mask_is_shown_and_that_is_said(made, tmp_path, opened):
    shutil.copytree(made / "slide.tilseg", tmp_path / "slide.tilseg")
    os.rename(made / "slide.tif", made / "away.tif")
    try:
        session = opened(tmp_path / "slide.tilseg")
    finally:
        os.rename(made / "away.tif", made / "slide.tif")
    about = session.about()
    assert not about["image"]
    assert "without its image" in about["notices"][0]
    assert "no such file" in about["notices"][0]
    assert session.image_tile(0, 0, 0) is None
    assert session.mask_tile(0, 0, 0, {1}, False)
    assert session.region(1)


def test_an_image_of_another_size_is_left_out(folder, opened):
    picture(folder / "slide.tif", ROWS + 1, COLS)
    result = folder / "slide.tilseg"
    # The receipt names the file by its path.
    rewrite_source(result, folder / "slide.tif")
    about = opened(result).about()
    assert not about["image"]
    assert "another now" in about["notices"][0]


def test_an_image_of_other_pixels_is_shown_and_that_is_said(folder, opened):
    picture(folder / "slide.tif", seed=1)
    result = folder / "slide.tilseg"
    rewrite_source(result, folder / "slide.tif")
    about = opened(result).about()
    assert about["image"]
    assert "has changed" in about["notices"][0]


def rewrite_source(result: Path, image: Path) -> None:
    """Let a copied receipt name the copied image."""
    receipt = unseal((result / "run.json").read_bytes())
    receipt = json.loads(json.dumps(receipt).replace(receipt["plan"]["source"], str(image)))
    (result / "run.json").write_text(seal(receipt))


@pytest.mark.parametrize("name", ["mask.zarr", "mask.tif"])
def test_a_single_file_is_a_result(folder, opened, name):
    output = folder / f"alone{Path(name).suffix}"
    package.run(plan_of(folder), output)
    session = opened(output)
    about = session.about()
    assert about["regions"] is None
    tile = session.mask_tile(0, 0, 0, {1}, False)
    assert tile == Session(folder / "slide.tilseg").mask_tile(0, 0, 0, {1}, False)
    assert session.at(5, 5)["region"] is None


def test_a_result_without_a_zarr_is_shown_from_its_tiff(folder, opened):
    package.run(plan_of(folder), folder / "tif.tilseg", outputs=["tif"])
    one, other = opened(folder / "tif.tilseg"), opened(folder / "slide.tilseg")
    for at in ((0, 0, 0), (0, 1, 2), (1, 0, 0)):
        first, second = (rgba(each.mask_tile(*at, {1}, False)) for each in (one, other))
        assert (first == second).mean() > (0.999 if at[0] == 0 else 0.7)
    assert one.at(300.5, 300.5) == other.at(300.5, 300.5)


def test_a_resampled_run_lies_on_its_image(folder, opened):
    package.run(plan_of(folder, resolution="0.5um"), folder / "coarse.tilseg")
    session = opened(folder / "coarse.tilseg")
    mask = session._result.mask
    rows, cols = (
        np.minimum((np.arange(n) + 0.5) / 2, s - 1).astype(int)
        for n, s in zip((ROWS, COLS), mask.shape, strict=True)
    )
    values = mask.read(Window(0, 0, *mask.shape))[np.ix_(rows, cols)]
    tile = rgba(session.mask_tile(0, 1, 1, {1}, False))
    assert np.array_equal(tile[..., 3] == 255, values[session.grid.tile(0, 1, 1).slices] == 1)
    found = session.region(1)
    assert found["box"] == [2 * found["values"][f"bbox-{side}"] for side in range(4)]
    label = session.at(401, 301)["region"]
    assert label is None or label["box"][0] <= 401 < label["box"][2]


def test_a_map_says_where_it_is(tmp_path, sample_data, opened):
    model = save_tiny_model(tmp_path / "four.safetensors", bands=4)
    source = package.open_source(sample_data / "scene.tif")
    package.run(package.make_plan(source, package.load_model(model)), tmp_path / "scene.tilseg")
    session = opened(tmp_path / "scene.tilseg")
    place = session.at(0.0, 0.0)["place"]
    assert (place["x"], place["y"]) == (
        session._result.georef.transform[2],
        session._result.georef.transform[5],
    )
    expected = rasterio.warp.transform("EPSG:32633", "EPSG:4326", [place["x"]], [place["y"]])
    assert (place["lon"], place["lat"]) == pytest.approx((expected[0][0], expected[1][0]))
    assert session.about()["metres"] == [10.0, 10.0]
    # Its bands are named: red, green and blue are shown, in that order.
    assert session._picture._look.bands == (2, 1, 0)


def test_a_run_under_way_shows_its_blocks_and_then_the_result(folder):
    # Of so many blocks that those in flight at the stop are not the last.
    plan, done = plan_of(folder, tile=64), [0.0]
    output = folder / "under way.tilseg"

    def note(progress):
        if progress.phase == "predict":
            done[0] = progress.done / progress.total

    with pytest.raises(Stopped):
        package.run(plan, output, progress=note, stop=lambda: done[0] > 0.1)
    viewer = Viewer(output)
    growing = viewer.session
    growing._values.look()
    state = growing.state()
    assert not state["finished"]
    assert 0 < state["done"] < state["blocks"] == len(plan.grid)
    mask = growing._result.mask.read(Window(0, 0, ROWS, COLS))
    tile = rgba(growing.mask_tile(0, 0, 0, {0, 1, 2}, False))
    assert np.array_equal(tile[..., 3] == 255, mask[growing.grid.tile(0, 0, 0).slices] != 255)
    about = growing.about()
    assert about["regions"] is None
    viewer.refresh()
    assert viewer.session is growing
    package.run(plan, output)
    viewer.refresh()
    assert viewer.session is not growing
    assert viewer.session.state()["finished"]
    assert viewer.session.about()["regions"] > 0
    viewer.close()


def test_what_is_gone_is_still_shown(folder):
    output = folder / "slide.tilseg"
    with serving(output) as server:
        output.rename(folder / "elsewhere")
        assert get(server, "/state.json")[0] == 200


@pytest.mark.parametrize(
    ("make", "id"),
    [
        (lambda path: None, "E-INPUT-MISSING"),
        (lambda path: path.mkdir(), "E-VIEW-RESULT"),
        (lambda path: path.write_text("text"), "E-VIEW-RESULT"),
        (lambda path: path.mkdir() or (path / "run.json").write_text("{}"), "E-VIEW-RESULT"),
        (lambda path: path.mkdir() or (path / "run.json").write_bytes(b"\xff"), "E-VIEW-RESULT"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, make, id):
    make(tmp_path / "x.tilseg")
    with pytest.raises(InputError) as error:
        open_result(tmp_path / "x.tilseg")
    assert error.value.id == id


def test_a_run_before_its_first_block_is_refused(folder):
    output = folder / "begun.tilseg"
    partial = folder / ".begun.tilseg.partial"
    receipt = unseal((folder / "slide.tilseg" / "run.json").read_bytes())
    partial.mkdir()
    content = {"fingerprint": receipt["fingerprint"], "plan": receipt["plan"], "inexact": None}
    (partial / "plan.json").write_text(seal(content))
    with pytest.raises(InputError, match="no block yet"):
        open_result(output)


def test_the_command_refuses_in_one_line(tmp_path):
    done = tilseg("view", "nothing.tilseg", "--no-open", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("error[E-INPUT-MISSING]: nothing.tilseg: no such file")
