"""`tilseg measure`: any mask, the same regions; what is no mask is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest
import rasterio
import rasterio.windows
import tifffile
import zarr
from regions_oracle import assert_like_skimage, tiled, whole_labels
from skimage.measure import regionprops_table
from tiny import noise

import tilseg
from tilseg.cli.main import main
from tilseg.plan import RegionOptions
from tilseg.verbs import measure as verb
from tilseg.window import Size

SHAPE = (211, 157)
AEGEAN = rasterio.windows.Window(20000, 4800, 911, 701)


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 3, SHAPE).repeat(3, 0)[: SHAPE[0]].astype(np.uint8)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(verb, "_BLOCK", Size(64, 50))


def _measure(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["measure", *map(str, arguments)])
    return int(ended.value.code)


def test_an_array_by_blocks_is_the_whole(mask):
    image = noise(*SHAPE, bands=2, dtype=np.uint16)
    regions = RegionOptions(shape=True)
    found = tilseg.measure(mask, image=image, regions=regions)
    assert len(found.grid) == 16
    assert_like_skimage(found, mask, image, with_hull=True)


@pytest.mark.parametrize("name", ["mask.tif", "mask.png", "mask.zarr"])
def test_every_format_gives_the_same(mask, tmp_path, name):
    path = tmp_path / name
    if name.endswith(".zarr"):
        zarr.create_array(path, data=mask, dimension_names=("y", "x"))
    elif name.endswith(".png"):
        from PIL import Image

        Image.fromarray(mask).save(path)
    else:
        tifffile.imwrite(path, mask)
    columns = tilseg.measure(path).columns
    expected = tiled(mask, SHAPE, nodata=None).columns
    assert columns.keys() >= expected.keys()
    for column, values in expected.items():
        np.testing.assert_array_equal(columns[column], values, err_msg=column)


def test_negative_nodata_is_no_region(mask):
    signed = mask.astype(np.int16)
    signed[50:90, 30:120] = -9999
    found = tilseg.measure(signed, nodata=-9999)
    hidden = mask.copy()
    hidden[50:90, 30:120] = 255
    np.testing.assert_array_equal(found.columns["area"], tiled(hidden, SHAPE).columns["area"])
    assert found.nodata == 40 * 90


def test_alpha_hides_pixels(mask, tmp_path):
    shown = np.ones(SHAPE, bool)
    shown[20:77, 11:100] = False
    with rasterio.open(
        tmp_path / "m.tif", "w", "GTiff", *SHAPE[::-1], count=1, dtype="uint8"
    ) as file:
        file.write(mask, 1)
        file.write_mask(shown)
    found = tilseg.measure(tmp_path / "m.tif", background=None)
    expected = tiled(np.where(shown, mask, 255), SHAPE, background=None)
    np.testing.assert_array_equal(found.columns["area"], expected.columns["area"])
    assert found.nodata == np.count_nonzero(~shown)


def test_files_and_totals(mask, tmp_path, capsys):
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    tifffile.imwrite(tmp_path / "image.tif", noise(*SHAPE), photometric="rgb")
    image, out = tmp_path / "image.tif", tmp_path / "out"
    options = ("--connectivity", 4, "--min-area", 5, "--labels")
    assert _measure(tmp_path / "mask.tif", "--image", image, "-o", out, *options) == 0
    assert str(out / "regions.csv") in capsys.readouterr().out
    labels = whole_labels(mask, nodata=None, connectivity=1)
    props = regionprops_table(labels, noise(*SHAPE), properties=("area", "intensity_mean"))
    large = props["area"] >= 5
    table = pyarrow.csv.read_csv(out / "regions.csv")
    np.testing.assert_array_equal(table["area"].to_numpy(), props["area"][large])
    np.testing.assert_array_equal(
        table["intensity_mean-2"].to_numpy(), props["intensity_mean-2"][large]
    )
    number = np.concatenate([[0], np.cumsum(large) * large])
    written = zarr.open_group(out / "labels.zarr", mode="r")["0"][:]
    np.testing.assert_array_equal(written, number[labels])
    # Again, in its own place, without labels.
    assert _measure(tmp_path / "mask.tif", "-o", out, "--json") == 0
    totals = json.loads(capsys.readouterr().out)
    assert totals["regions"] == tiled(mask, SHAPE).columns["label"].max()
    assert {path.name for path in out.iterdir()} == {"regions.csv", "regions.parquet"}
    assert {path.name for path in tmp_path.iterdir()} == {"mask.tif", "image.tif", "out"}


def test_a_mask_of_a_level_is_measured_with_that_level(sample_data):
    image = tilseg.open_source(sample_data / "slide.tif")
    size = image.levels[1].size
    found = tilseg.measure(np.ones(size, np.uint8), image=image)
    pixels = image.read(tilseg.window.Window.whole(size), 1).reshape(-1, image.bands)
    means = [found.columns[f"intensity_mean-{band}"][0] for band in range(image.bands)]
    assert means == pytest.approx(pixels.mean(axis=0))
    # The mask has no place of its own: it is where that level is.
    level, pixel = image.levels[1], image.georef.pixel_size
    area = level.row_factor * level.col_factor * pixel.rows * pixel.cols * size.area
    assert found.columns["area_um2"][0] == pytest.approx(area)


def test_no_regions_are_a_result(capsys, tmp_path):
    tifffile.imwrite(tmp_path / "zero.tif", np.zeros(SHAPE, np.uint8))
    assert _measure(tmp_path / "zero.tif", "-o", tmp_path / "none") == 0
    assert (tmp_path / "none" / "regions.csv").read_text().count("\n") == 1


def _bad(folder: Path) -> dict[str, tuple[tuple[object, ...], int, str]]:
    masks = {
        "good": np.eye(20, 30, dtype=np.uint8),
        "float": np.eye(20, 30, dtype=np.float32),
        "negative": np.full((20, 30), -3, np.int16),
        "bands": np.zeros((20, 30, 3), np.uint8),
        "other": np.zeros((21, 30), np.uint8),
        "full": np.full((20, 30), 255, np.uint8),
    }
    paths = {name: folder / f"{name}.tif" for name in masks}
    for name, pixels in masks.items():
        tifffile.imwrite(paths[name], pixels)
    (folder / "empty.tif").touch()
    (folder / "text.tif").write_text("hello\n")
    good = paths["good"].read_bytes()
    (folder / "torn.tif").write_bytes(good[: len(good) // 2])
    (folder / "taken").mkdir()
    (folder / "taken" / "thesis.doc").touch()
    return {
        "missing": ((folder / "nowhere.tif",), 4, "E-INPUT-MISSING"),
        "no bytes": ((folder / "empty.tif",), 4, "E-INPUT-EMPTY"),
        "text": ((folder / "text.tif",), 4, "E-INPUT-FORMAT"),
        "torn": ((folder / "torn.tif",), 4, "E-INPUT-TRUNCATED"),
        "no mask in it": ((folder / "taken",), 4, "E-INPUT-DIRECTORY"),
        "float": ((paths["float"],), 4, "E-MASK-DTYPE"),
        "negative": ((paths["negative"],), 4, "E-MASK-NEGATIVE"),
        "bands": ((paths["bands"],), 4, "E-MASK-BANDS"),
        "sizes": ((paths["good"], "--image", paths["other"]), 4, "E-REGION-IMAGE"),
        "image": ((paths["good"], "--image", folder / "text.tif"), 4, "E-INPUT-FORMAT"),
        "nodata": ((paths["full"], "--nodata", 255), 4, "E-MASK-NO-DATA"),
        "value": ((paths["good"], "--nodata", "some"), 2, "E-OPTION"),
        "area": ((paths["good"], "--min-area", "3 acres"), 2, "E-OPTION"),
        "unit": ((paths["good"], "--min-area", "3um2"), 2, "E-REGION-UNIT"),
        "labels": ((paths["good"], "--labels"), 2, "E-USAGE"),
        "taken": ((paths["good"], "-o", folder / "taken"), 10, "E-MEASURE-EXISTS"),
        "parent": ((paths["good"], "-o", folder / "no" / "where"), 7, "E-OUTPUT-PARENT"),
    }


def test_bad_input_gets_one_line_the_right_code_and_leaves_nothing(tmp_path, capsys):
    cases = _bad(tmp_path)
    before = {path.name for path in tmp_path.iterdir()}
    for name, (arguments, code, id) in cases.items():
        ended = _measure(*arguments)
        printed = capsys.readouterr()
        assert (ended, printed.err.split("]")[0]) == (code, f"error[{id}"), name
        assert printed.err.count("\n") == 1, name
        assert printed.out == "", name
        assert {path.name for path in tmp_path.iterdir()} == before, name


def test_land_is_measured_on_the_ground(real_data, tmp_path):
    path = real_data / "geo_world_landmask_648Mpx" / "cog_world.tif"
    with rasterio.open(path) as file:
        mask = file.read(1, window=AEGEAN)
        profile = {"crs": file.crs, "transform": file.window_transform(AEGEAN), "dtype": "uint8"}
        with rasterio.open(
            tmp_path / "land.tif", "w", "GTiff", *mask.shape[::-1], 1, **profile
        ) as crop:
            crop.write(mask, 1)
    found = tilseg.measure(tmp_path / "land.tif")
    assert len(found) == 72
    # A pixel of 0.01 degrees at the latitude of each region's centroid.
    lat = np.radians(found.columns["lat"])
    radius = 6371e3 * np.radians(0.01)
    expected = found.columns["area"] * radius**2 * np.cos(lat)
    np.testing.assert_allclose(found.columns["area_m2"], expected, rtol=0.01)
