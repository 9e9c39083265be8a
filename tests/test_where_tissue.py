"""Tissue found on an overview, and read from a mask."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image
from scipy import ndimage
from skimage.measure import block_reduce
from tiny import TILSEG, noise, save_tiny_model, tilseg, tree

import tilseg as package
from tilseg.errors import InputError, Stopped, UsageError
from tilseg.selection import TissueMask
from tilseg.source import open_source
from tilseg.where import overview as overviews
from tilseg.where.overview import overview
from tilseg.where.tissue import find_tissue, read_tissue, tissue_png
from tilseg.window import Size, Window

GLASS, STAIN = (241, 240, 243), (171, 92, 150)


def slide(rows=907, cols=1201, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """Stained islands on glass with noise, dust, a hole and a black frame; and where they are."""
    rng = np.random.default_rng(seed)
    row, col = np.mgrid[:rows, :cols]
    tissue = ((row - 300) / 190) ** 2 + ((col - 400) / 250) ** 2 < 1
    tissue |= ((row - 640) / 130) ** 2 + ((col - 950) / 90) ** 2 < 1
    hole = (row - 310) ** 2 + (col - 420) ** 2 < 70**2
    picture = np.where((tissue & ~hole)[..., None], STAIN, GLASS).astype(float)
    picture += rng.normal(0, 4, picture.shape) + rng.normal(0, 3, (rows, cols, 1))
    picture[700:703, 100:104] = (90, 20, 140)
    picture[:, :23] = 3
    return picture.clip(0, 255).astype(np.uint8), tissue & ~hole


def stretched(mask: TissueMask, shape: Size) -> np.ndarray:
    image = Image.fromarray(mask.pixels).resize((shape.cols, shape.rows), Image.NEAREST)
    return np.asarray(image)


def test_tissue_is_found_with_a_narrow_margin():
    picture, tissue = slide()
    mask = find_tissue(open_source(picture), (0, 1, 2))
    found = stretched(mask, Size(*tissue.shape))
    assert found[tissue].all()
    margin = ndimage.distance_transform_edt(~tissue)
    assert margin[found].max() < 12
    assert mask.origin == "auto"


def test_a_dark_ground_shows_fluorescence():
    rng = np.random.default_rng(3)
    signal = np.zeros((403, 601))
    signal[90:210, 300:500] = 900
    picture = (signal + rng.gamma(2, 20, signal.shape)).astype(np.uint16)
    found = find_tissue(open_source(picture), (0,)).pixels
    assert found.shape == picture.shape
    assert found[95:205, 305:495].all()
    assert found.mean() < 1.3 * (signal > 0).mean()


@pytest.mark.parametrize(
    "picture", [np.full((301, 207, 3), 240, np.uint8), slide()[0][800:, 30:300]]
)
def test_glass_alone_is_no_tissue(picture):
    with pytest.raises(InputError, match="no tissue was found; segment all of the image") as caught:
        find_tissue(open_source(picture), (0, 1, 2))
    assert caught.value.id == "E-TISSUE-NONE"


def test_tissue_alone_is_all_tissue():
    picture, _ = slide()
    assert find_tissue(
        open_source(np.ascontiguousarray(picture[200:260, 200:300])), (0, 1, 2)
    ).pixels.all()


@pytest.mark.parametrize("strip", [97, 2048])
def test_an_overview_is_of_means(strip, monkeypatch):
    monkeypatch.setattr(overviews, "_STRIP", strip)
    image = noise(7 * 53, 11 * 47)
    found = overview(open_source(image), (2, 0), 0, Size(53, 47))
    expected = block_reduce(image[..., [2, 0]].astype(float), (7, 11, 1), np.mean)
    np.testing.assert_allclose(found.pixels, expected, rtol=1e-6)
    assert not found.unread.any()


def test_an_overview_does_not_read_what_kills(monkeypatch):
    monkeypatch.setattr(overviews, "_STRIP", 97)
    source, windows = open_source(noise(7 * 53, 11 * 47)), []
    whole = overview(source, (0,), 0, Size(53, 47))
    without = np.zeros((53, 47), np.bool_)
    without[31, 20] = True
    read = type(source).read
    monkeypatch.setattr(
        type(source), "read", lambda self, w, *b: windows.append(w) or read(self, w, *b)
    )
    found = overview(source, (0,), 0, Size(53, 47), without)
    deadly = Window(31 * 7, 20 * 11, 7, 11)
    assert windows
    assert not any(window.intersection(deadly).size.area for window in windows)
    assert found.unread[31, 20]
    assert found.unread.mean() < 0.2
    np.testing.assert_array_equal(found.pixels[~found.unread], whole.pixels[~found.unread])


def test_an_overview_leaves_nodata_out():
    image = noise(60, 44).astype(np.float32)
    image[:30, :11] = np.nan
    image[31, 40] = np.nan
    found = overview(open_source(image), (0,), 0, Size(6, 4)).pixels[..., 0]
    assert np.isnan(found[:3, 0]).all()
    assert np.isfinite(found[3:]).all()
    assert found[3, 3] == pytest.approx(np.nanmean(image[30:40, 33:, 0]))


def test_an_overview_is_read_from_the_level_that_has_its_pixels(tmp_path, monkeypatch):
    picture, _ = slide()
    rows, cols, bands = picture.shape
    with rasterio.open(
        tmp_path / "slide.tif", "w", driver="GTiff", height=rows, width=cols, count=bands,
        dtype="uint8", tiled=True, blockxsize=128, blockysize=128,
    ) as file:  # fmt: skip
        file.write(np.moveaxis(picture, 2, 0))
        file.build_overviews([2, 4], rasterio.enums.Resampling.average)
    source = open_source(tmp_path / "slide.tif")
    assert len(source.levels) == 3
    levels = []
    read = type(source).read
    monkeypatch.setattr(
        type(source),
        "read",
        lambda self, w, level, *b: levels.append(level) or read(self, w, level, *b),
    )
    found = overview(source, (0, 1, 2), 0, Size(300, 400))
    assert set(levels) == {1}
    expected = overview(open_source(picture), (0, 1, 2), 0, Size(300, 400))
    assert np.abs(found.pixels - expected.pixels).mean() < 3


def test_what_cannot_be_read_counts_as_tissue(monkeypatch):
    monkeypatch.setattr(overviews, "_STRIP", 128)
    picture, tissue = slide()
    source = open_source(picture)
    read = type(source).read

    def bad(self, window, *rest):
        if window.row == 0 and window.col > 900:
            raise InputError("E-INPUT-READ", path="x", reason="torn")
        return read(self, window, *rest)

    monkeypatch.setattr(type(source), "read", bad)
    found = stretched(find_tissue(source, (0, 1, 2)), Size(*tissue.shape))
    assert found[:60, 1100:].all()
    assert not found[780:, 30:].any()


def test_a_mask_survives_its_picture(tmp_path):
    mask = TissueMask.of(np.random.default_rng(0).random((37, 53)) < 0.3, "auto")
    (tmp_path / "tissue.png").write_bytes(tissue_png(mask))
    again = read_tissue(tmp_path / "tissue.png", Size(370, 530))
    np.testing.assert_array_equal(again.pixels, mask.pixels)
    assert again.sha256 == mask.sha256
    assert again.origin == str(tmp_path / "tissue.png")


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.ones((53, 37), np.uint8), "37 x 53 pixels, which is another shape"),
        (np.ones((37, 53, 3), np.uint8), "3 bands"),
        (np.ones((37, 53), np.float32), "float32"),
        (np.ones((4100, 5874), np.uint8), "make it smaller"),
        (np.zeros((37, 53), np.uint8), "no tissue is marked in it"),
    ],
)
def test_what_is_no_tissue_mask(tmp_path, pixels, words):
    tifffile.imwrite(tmp_path / "mask.tif", pixels, compression="zlib")
    with pytest.raises(InputError) as caught:
        read_tissue(tmp_path / "mask.tif", Size(370, 530))
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.id == ("E-TISSUE-NONE" if "marked" in words else "E-TISSUE-MASK")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    picture, _ = slide()
    tifffile.imwrite(folder / "slide.tif", picture, tile=(128, 128), photometric="rgb")
    save_tiny_model(folder / "tiny.safetensors")
    square = {"type": "Polygon", "coordinates": [[[90, 80], [780, 40], [700, 900], [90, 80]]]}
    (folder / "roi.geojson").write_text(json.dumps(square))
    return folder


OPTIONS = ("--model", "tiny.safetensors", "--tile", "64", "--memory", "900MB", "--threads", "1")


def test_the_command_segments_tissue_and_says_what_it_left_out(desk):
    place = ("--tissue", "auto", "--roi", "roi.geojson")
    planned = tilseg("plan", "slide.tif", *OPTIONS, *place, "--json", cwd=desk, check=True)
    skipped = json.loads(planned.stdout)["skipped"]
    assert min(skipped["tissue"], skipped["roi"]) > 0
    shown = tilseg("plan", "slide.tif", *OPTIONS, *place, cwd=desk, check=True).stdout
    assert f"not segmented: {skipped['tissue']} without tissue, {skipped['roi']} outside" in shown
    ran = tilseg("run", "slide.tif", *OPTIONS, *place, cwd=desk, check=True)
    assert f"not segmented: {skipped['tissue']} without tissue" in ran.stdout
    summary = json.loads((desk / "slide.tilseg" / "summary.json").read_text())
    blocks = summary["blocks"]
    assert blocks["skipped"] == skipped
    assert blocks["done"] + sum(skipped.values()) == blocks["total"]
    receipt = json.loads((desk / "slide.tilseg" / "run.json").read_text())
    assert receipt["nodata_fill"]["method"] == "band mean"
    assert tilseg("verify", "slide.tilseg", cwd=desk).returncode == 0
    # The picture of the mask is a mask, and the same one.
    shutil.copy(desk / "slide.tilseg" / "tissue.png", desk / "tissue.png")
    again = ("--tissue", "tissue.png", "--roi", "roi.geojson")
    same = tilseg("run", "slide.tif", *OPTIONS, *again, cwd=desk)
    assert same.returncode == 0
    assert "nothing to do" in same.stdout
    other = tilseg("run", "slide.tif", *OPTIONS, "--tissue", "auto", cwd=desk)
    assert other.returncode == 10
    assert "differs from this run in roi (" in other.stderr


def plan_of(desk, **options):
    source = open_source(desk / "slide.tif")
    model = package.load_model(desk / "tiny.safetensors", threads=1)
    return package.make_plan(source, model, tile=64, threads=1, roi=desk / "roi.geojson", **options)


def test_a_run_that_was_stopped_ends_in_the_same_bytes_and_counts_what_it_computes(desk, tmp_path):
    plan = plan_of(desk, tissue="auto")
    seen = []
    package.run(plan, tmp_path / "whole.tilseg", progress=seen.append)
    totals = {step.total for step in seen if step.phase == "predict"}
    assert totals == {max(step.done for step in seen if step.phase == "predict")}
    assert max(totals) < plan.grid.shape.area
    done = []
    with pytest.raises(Stopped):
        package.run(
            plan, tmp_path / "torn.tilseg", progress=done.append,
            stop=lambda: sum(step.phase == "predict" for step in done) > 2,
        )  # fmt: skip
    # A later version might find other tissue: the first start's is kept.
    other = replace(plan.selection, tissue=TissueMask.of(np.eye(3, 4) > 0, "auto"))
    plan = replace(plan, selection=other)
    report = package.run(plan, tmp_path / "torn.tilseg")
    assert report.kept > 0
    assert tree(tmp_path / "torn.tilseg") == tree(tmp_path / "whole.tilseg")


def test_a_run_that_was_killed_ends_in_the_same_bytes(desk, tmp_path):
    package.run(plan_of(desk, tissue="auto", memory="900MB"), tmp_path / "whole.tilseg")
    place = ("--tissue", "auto", "--roi", "roi.geojson", "-o", tmp_path / "killed.tilseg")
    command = [TILSEG, "run", "slide.tif", *OPTIONS, *map(str, place)]
    journal = tmp_path / ".killed.tilseg.partial" / "journal-0.jsonl"
    process = subprocess.Popen(command, cwd=desk, stderr=subprocess.DEVNULL)
    while process.poll() is None and (
        not journal.exists() or journal.read_bytes().count(b"crcs") < 3
    ):
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (tmp_path / "killed.tilseg").exists()
    subprocess.run(command, cwd=desk, check=True, capture_output=True)
    assert tree(tmp_path / "killed.tilseg") == tree(tmp_path / "whole.tilseg")


def test_the_card_may_ask_for_tissue_and_the_option_says_otherwise(desk, tmp_path):
    model = package.load_model(desk / "tiny.safetensors", threads=1)
    model.card = model.card.model_copy(update={"tissue": "auto"})
    source = open_source(desk / "slide.tif")
    assert package.make_plan(source, model).selection.tissue is not None
    assert package.make_plan(source, model, tissue="none").selection.tissue is None
    model.card = model.card.model_copy(update={"background": None})
    with pytest.raises(UsageError, match="no background class"):
        package.make_plan(source, model)


def test_tissue_and_interest_may_miss_each_other(desk, tmp_path):
    square = {"type": "Polygon", "coordinates": [[[1100, 10], [1190, 10], [1190, 90], [1100, 10]]]}
    (tmp_path / "glass.geojson").write_text(json.dumps(square))
    found = tilseg(
        "run", desk / "slide.tif", "--tissue", "auto", "--roi", "glass.geojson", "--tile", "64",
        cwd=tmp_path,
    )  # fmt: skip
    assert found.returncode == 4
    assert "no tissue lies in the region of interest" in found.stderr
    assert found.stderr.count("\n") == 1
