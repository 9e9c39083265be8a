"""Polygons of a run: those of its mask, whatever its tiles, stopped and continued."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import shapely
import tifffile
import zarr
from polygons_oracle import gdal_rings, our_rings
from qupath_rules import check_import
from regions_oracle import whole_labels
from tiny import noise, save_tiny_model, tree
from tiny import tilseg as command

import tilseg
from tilseg.errors import Stopped, UsageError
from tilseg.plan import RegionOptions

SHAPE = (211, 307)
FORMATS = ("geojson", "geoparquet")
POLYGONS = RegionOptions(polygons=FORMATS)


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    save_tiny_model(folder / "tiny.safetensors", classes=3)
    tifffile.imwrite(folder / "image.tif", noise(*SHAPE), photometric="rgb")
    return folder


def _plan(desk: Path, image: Path | None = None, **options: Any) -> Any:
    source = tilseg.open_source(image or desk / "image.tif")
    network = tilseg.load_model(str(desk / "tiny.safetensors"), threads=1)
    return tilseg.make_plan(source, network, **{"tile": 32, "threads": 1} | options)


@pytest.fixture(scope="module")
def whole(desk) -> Path:
    tilseg.run(_plan(desk, regions=POLYGONS), desk / "whole.tilseg", outputs=("zarr",))
    return desk / "whole.tilseg"


def _pixels(result: Path) -> np.ndarray:
    return zarr.open_group(result / "mask.zarr", mode="r")["0"][:]


def test_polygons_are_those_of_gdal_on_the_whole_mask(whole):
    labels = whole_labels(_pixels(whole))
    text = (whole / "regions.geojson").read_text()
    features = check_import(text, SHAPE[1], SHAPE[0])
    shapes = shapely.from_geojson([json.dumps(feature["geometry"]) for feature in features])
    assert our_rings(shapes) == gdal_rings(labels)
    assert len(shapes) == labels.max() > 500
    assert shapely.coverage_is_valid(shapes)
    kinds = {json.dumps(feature["properties"]["classification"]) for feature in features}
    assert json.loads(min(kinds)) == {"name": "class 1", "color": [0x28, 0x80, 0x40]}


def test_the_same_bytes_from_measure_and_from_other_tiles(desk, whole, tmp_path):
    image = tilseg.open_source(desk / "image.tif")
    tilseg.measure(whole, image=image, output=tmp_path / "again", regions=POLYGONS)
    tilseg.run(_plan(desk, regions=POLYGONS, tile=64), tmp_path / "other.tilseg", outputs=("zarr",))
    np.testing.assert_array_equal(_pixels(tmp_path / "other.tilseg"), _pixels(whole))
    for name in ("regions.geojson", "regions.parquet"):
        written = (whole / name).read_bytes()
        assert (tmp_path / "again" / name).read_bytes() == written
        assert (tmp_path / "other.tilseg" / name).read_bytes() == written


def test_stopped_while_writing_polygons_it_is_continued(desk, whole):
    output = desk / "stopped.tilseg"
    for least in (0, SHAPE[0] * SHAPE[1] + 1):
        seen: list[int] = []
        with pytest.raises(Stopped):
            tilseg.run(
                _plan(desk, regions=POLYGONS),
                output,
                outputs=("zarr",),
                progress=lambda step, seen=seen: (
                    step.phase == "polygons" and seen.append(step.done)
                ),
                stop=lambda seen=seen, least=least: bool(seen) and seen[-1] >= least,
            )
        assert not output.exists()
    report = tilseg.run(_plan(desk, regions=POLYGONS), output, outputs=("zarr",))
    assert report.done == 0
    assert tree(output) == tree(whole)
    assert tilseg.verify(output) == []
    # And once more there is nothing to do.
    again = tilseg.run(_plan(desk, regions=POLYGONS), output, outputs=("zarr",))
    assert not again.computed


def test_a_stop_reaches_through_gdal(desk):
    pytest.importorskip("pyogrio", reason="the gis extra is not installed")
    regions = RegionOptions(polygons=("gpkg", "fgb"))
    seen: list[int] = []
    with pytest.raises(Stopped):
        tilseg.run(
            _plan(desk, regions=regions),
            desk / "gdal.tilseg",
            outputs=("zarr",),
            progress=lambda step: step.phase == "polygons" and seen.append(step.done),
            stop=lambda: bool(seen) and seen[-1] > 2 * SHAPE[0] * SHAPE[1],
        )
    tilseg.run(_plan(desk, regions=regions), desk / "gdal.tilseg", outputs=("zarr",))
    assert tilseg.verify(desk / "gdal.tilseg") == []


KILLED = """
import os, signal, sys
import tilseg
from tilseg.plan import RegionOptions

def die(step):
    if step.phase == "polygons" and step.done > int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

model = tilseg.load_model("tiny.safetensors", threads=1)
regions = RegionOptions(polygons=("geojson", "geoparquet"))
source = tilseg.open_source("image.tif")
plan = tilseg.make_plan(source, model, tile=32, threads=1, regions=regions)
tilseg.run(plan, "killed.tilseg", outputs=("zarr",), progress=die)
"""


def test_killed_while_writing_polygons_it_ends_in_the_same_bytes(desk, whole):
    """Once while outlines are traced, once when the first file is written."""
    for done in (1, SHAPE[0] * SHAPE[1] + 1):
        words = [sys.executable, "-c", KILLED, str(done)]
        killed = subprocess.run(words, cwd=desk, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert not (desk / "killed.tilseg").exists()
    assert list(desk.glob(".killed.tilseg.partial/result*/regions.geojson"))
    tilseg.run(_plan(desk, regions=POLYGONS), desk / "killed.tilseg", outputs=("zarr",))
    assert tree(desk / "killed.tilseg") == tree(whole)
    assert not list(desk.glob(".killed*"))


def test_of_a_smaller_level_they_lie_on_the_whole_slide(desk, sample_data, tmp_path):
    plan = _plan(desk, sample_data / "slide.tif", tile=128, level=1, regions=POLYGONS)
    tilseg.run(plan, tmp_path / "level.tilseg", outputs=("zarr",))
    source = tilseg.open_source(sample_data / "slide.tif")
    text = (tmp_path / "level.tilseg" / "regions.geojson").read_text()
    features = check_import(text, source.shape.cols, source.shape.rows)
    level = source.levels[1]
    shapes = shapely.from_geojson([json.dumps(feature["geometry"]) for feature in features])
    pixels = [feature["properties"]["measurements"]["area"] for feature in features]
    expected = np.sum(pixels) * level.row_factor * level.col_factor
    assert shapely.area(shapes).sum() == pytest.approx(expected, rel=1e-4)
    bounds = shapely.total_bounds(shapes)
    assert (bounds[2:] > np.array([source.shape.cols, source.shape.rows]) * 0.95).all()


def test_a_single_file_has_no_room_for_polygons(desk, tmp_path):
    with pytest.raises(UsageError):
        tilseg.run(_plan(desk, regions=POLYGONS), tmp_path / "mask.tif")
    assert not list(tmp_path.iterdir())


def test_the_command_line(desk, tmp_path):
    done = command(
        *("run", desk / "image.tif", "--model", desk / "tiny.safetensors", "--tile", 64),
        *("--outputs", "zarr", "-o", "r.tilseg", "--polygons", "geoparquet,geojson"),
        *("--simplify", 1.5, "--only", 2, "--min-area", 20),
        cwd=tmp_path,
        check=True,
    )
    assert "r.tilseg/regions.geojson" in done.stdout
    table = pyarrow.parquet.read_table(tmp_path / "r.tilseg" / "regions.parquet")
    assert set(table["class_name"].to_pylist()) == {"class 2"}
    assert min(table["area"].to_pylist()) >= 20
    text = (tmp_path / "r.tilseg" / "regions.geojson").read_text()
    assert len(check_import(text, SHAPE[1], SHAPE[0])) == len(table)
    for wrong, id in {
        ("--polygons", "shp"): "E-OPTION",
        ("--simplify", 2): "E-USAGE",
        ("--only", "nuclei"): "E-OPTION",
        ("--polygons", "geojson"): "E-USAGE",
    }.items():
        refused = command("measure", "r.tilseg", *wrong, cwd=tmp_path)
        assert (refused.returncode, refused.stderr.split("]")[0]) == (2, f"error[{id}")


def test_a_real_slide_for_qupath(desk, real_data, tmp_path):
    slide = real_data / "wsi" / "CMU-1-Small-Region.svs"
    source, network = tilseg.open_source(slide), tilseg.load_model("nuclei", threads=1)
    regions = RegionOptions(polygons=("geojson",))
    plan = tilseg.make_plan(source, network, threads=1, regions=regions)
    tilseg.run(plan, tmp_path / "slide.tilseg", outputs=("zarr",))
    text = (tmp_path / "slide.tilseg" / "regions.geojson").read_text()
    features = check_import(text, source.shape.cols, source.shape.rows)
    assert len(features) > 300
    assert {f["properties"]["classification"]["name"] for f in features} == {"nucleus"}


def test_polygons_are_of_instances_where_these_are_told_apart(whole, tmp_path):
    cut = RegionOptions(instances=tilseg.Watershed(depth=1.0), labels=True, polygons=("geojson",))
    table = tilseg.measure(whole, output=tmp_path / "out", regions=cut)
    assert len(table) > len(pyarrow.parquet.read_table(whole / "regions.parquet"))
    features = check_import((tmp_path / "out" / "regions.geojson").read_text(), *SHAPE[::-1])
    shapes = shapely.from_geojson([json.dumps(feature["geometry"]) for feature in features])
    labels = zarr.open_group(tmp_path / "out" / "labels.zarr", mode="r")["0"][:]
    assert our_rings(shapes) == gdal_rings(labels)
    assert shapely.coverage_is_valid(shapes)
    # Classes are those of the mask, not the numbers of instances.
    some = tilseg.measure(whole, regions=RegionOptions(instances=cut.instances, only=(2,)))
    kept = table.columns["class"] == 2
    np.testing.assert_array_equal(some.columns["area"], table.columns["area"][kept])
