"""Regions of a run: those of its mask, however it was cut, stopped and continued."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import rasterio
import tifffile
import zarr
from regions_oracle import whole_labels
from skimage.measure import regionprops_table
from tiny import noise, save_tiny_model, tree

import tilseg
from tilseg import infer
from tilseg.errors import InputError, Stopped, UsageError
from tilseg.plan import RegionOptions
from tilseg.stores import TABLES

SHAPE = (211, 307)


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    save_tiny_model(folder / "tiny.safetensors", classes=3)
    save_tiny_model(folder / "four.safetensors", bands=4)
    tifffile.imwrite(folder / "image.tif", noise(*SHAPE), photometric="rgb")
    return folder


def _plan(desk: Path, image: Any = None, model: str = "tiny", **options: Any) -> Any:
    source = tilseg.open_source(image or desk / "image.tif")
    network = tilseg.load_model(str(desk / f"{model}.safetensors"), threads=1)
    return tilseg.make_plan(source, network, **{"tile": 32, "threads": 1} | options)


@pytest.fixture(scope="module")
def whole(desk) -> Path:
    """A run with everything that regions can have."""
    regions = RegionOptions(shape=True, labels=True)
    tilseg.run(_plan(desk, regions=regions), desk / "whole.tilseg", outputs=("zarr",))
    return desk / "whole.tilseg"


def _pixels(result: Path, name: str = "mask.zarr") -> Any:
    return zarr.open_group(result / name, mode="r")["0"][:]


def _columns(result: Path) -> dict[str, Any]:
    table = pyarrow.parquet.read_table(result / "regions.parquet")
    return {name: table[name].to_numpy() for name in table.column_names}


def test_tables_are_those_of_scikit_image_on_the_whole_mask(desk, whole):
    mask = _pixels(whole)
    labels = whole_labels(mask)
    np.testing.assert_array_equal(_pixels(whole, "labels.zarr"), labels)
    names = ("label", "area", "bbox", "centroid", "euler_number", "intensity_mean")
    names += ("intensity_min", "intensity_max", "area_convex", "perimeter_crofton")
    expected = regionprops_table(labels, noise(*SHAPE), properties=names)
    found = _columns(whole)
    assert len(found["label"]) == labels.max() > 500
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert len(_plan(desk).grid) > 8


def test_measure_finds_the_same_bytes(desk, whole, tmp_path):
    regions = RegionOptions(shape=True, labels=True)
    image = tilseg.open_source(desk / "image.tif")
    tilseg.measure(whole, image=image, output=tmp_path / "again", regions=regions)
    for name in ("regions.csv", "regions.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (whole / name).read_bytes()
    np.testing.assert_array_equal(
        _pixels(tmp_path / "again", "labels.zarr"), _pixels(whole, "labels.zarr")
    )


def test_the_summary_counts_the_regions_of_each_class(whole):
    summary = json.loads((whole / "summary.json").read_text())
    classes = _columns(whole)["class"]
    counts = [info["regions"] for info in summary["classes"]]
    assert counts == [None, *(int((classes == value).sum()) for value in (1, 2))]
    assert sum(filter(None, counts)) == len(classes)


def test_tables_do_not_depend_on_the_tile(desk, whole, tmp_path):
    regions = RegionOptions(shape=True)
    mask = _pixels(whole)
    plan = _plan(desk, tile=64, regions=regions)
    tilseg.run(plan, tmp_path / "other.tilseg", outputs=("zarr",))
    # The mask is the same only while no pixel of this image is near a tie.
    np.testing.assert_array_equal(_pixels(tmp_path / "other.tilseg"), mask)
    other, same = _columns(tmp_path / "other.tilseg"), _columns(whole)
    assert other.keys() == same.keys()
    for name, values in same.items():
        np.testing.assert_array_equal(other[name], values, err_msg=name)


def test_stopped_and_continued_ends_in_the_same_bytes(desk, whole):
    output = desk / "stopped.tilseg"
    partial = desk / ".stopped.tilseg.partial"
    regions = RegionOptions(shape=True, labels=True)
    stops = 0
    while not output.exists():
        steps: list[Any] = []
        try:
            tilseg.run(
                _plan(desk, regions=regions),
                output,
                outputs=("zarr",),
                progress=steps.append,
                stop=lambda steps=steps: sum(s.phase == "predict" for s in steps) > 3,
            )
        except Stopped:
            stops += 1
            _damage(partial / TABLES, stops)
    assert stops >= 2
    assert tree(output) == tree(whole)


def _damage(tables: Path, turn: int) -> None:
    """What a crash leaves: a table torn, one gone, a stray private file."""
    first, second, *_ = sorted(tables.glob("*.npz"))
    if turn == 1:
        first.write_bytes(first.read_bytes()[:100])
        second.unlink()
        (tables / ".3.npz.0.partial").write_bytes(b"torn")


def test_a_stop_while_writing_tables_and_labels_is_continued(desk, whole):
    output = desk / "late.tilseg"
    regions = RegionOptions(shape=True, labels=True)
    for phase in ("regions", "labels"):
        seen: list[str] = []
        with pytest.raises(Stopped):
            tilseg.run(
                _plan(desk, regions=regions),
                output,
                outputs=("zarr",),
                progress=lambda step, seen=seen: seen.append(step.phase),
                stop=lambda seen=seen, phase=phase: phase in seen,
            )
        assert not output.exists()
    report = tilseg.run(_plan(desk, regions=regions), output, outputs=("zarr",))
    assert report.done == 0
    assert tree(output) == tree(whole)


def test_without_regions_there_are_no_tables(desk, whole):
    report = tilseg.run(_plan(desk, regions=None), desk / "bare.tilseg", outputs=("zarr",))
    names = {path.name for path in (desk / "bare.tilseg").iterdir()}
    assert names == {"mask.zarr", "report.html", "run.json", "summary.json"}
    assert {info["regions"] for info in report.summary["classes"]} == {None}
    np.testing.assert_array_equal(_pixels(desk / "bare.tilseg"), _pixels(whole))


def test_small_regions_are_left_out_of_tables_and_labels_alone(desk, whole):
    regions = RegionOptions(min_area=30, labels=True)
    tilseg.run(_plan(desk, regions=regions), desk / "large.tilseg", outputs=("zarr",))
    everything, large = _columns(whole), _columns(desk / "large.tilseg")
    kept = everything["area"] >= 30
    assert 3 < kept.sum() < len(kept)
    assert large["label"].tolist() == list(range(1, kept.sum() + 1))
    for name in ("area", "class", "perimeter", "intensity_mean-1"):
        np.testing.assert_array_equal(large[name], everything[name][kept])
    number = np.concatenate([[0], np.cumsum(kept) * kept])
    labels = number[_pixels(whole, "labels.zarr")]
    np.testing.assert_array_equal(_pixels(desk / "large.tilseg", "labels.zarr"), labels)
    np.testing.assert_array_equal(_pixels(desk / "large.tilseg"), _pixels(whole))


@pytest.mark.parametrize("connectivity", [4, 8])
def test_connectivity(desk, tmp_path, connectivity):
    plan = _plan(desk, tile=64, regions=RegionOptions(connectivity=connectivity))
    tilseg.run(plan, tmp_path / "c.tilseg", outputs=("zarr",))
    labels = whole_labels(_pixels(tmp_path / "c.tilseg"), connectivity=connectivity // 4)
    assert len(_columns(tmp_path / "c.tilseg")["label"]) == labels.max()


def test_a_map_has_areas_on_the_ground(desk, sample_data, tmp_path):
    scene = sample_data / "scene.tif"
    # The same pixels, said to be 0.001 degrees wide.
    degrees = tmp_path / "degrees.tif"
    with rasterio.open(scene) as file:
        profile = {**file.profile, "crs": "EPSG:4326"}
        profile["transform"] = rasterio.transform.from_origin(13.0, 48.0, 0.001, 0.001)
        with rasterio.open(degrees, "w", **profile) as copy:
            copy.write(file.read())
    found = {}
    for name, image in {"utm": scene, "degrees": degrees}.items():
        plan = _plan(desk, image, "four", tile=128)
        report = tilseg.run(plan, tmp_path / f"{name}.tilseg", outputs=("zarr",))
        areas = _columns(tmp_path / f"{name}.tilseg")["area_m2"]
        background, nuclei = report.summary["classes"]
        assert nuclei["area"] == pytest.approx(areas.sum(), rel=1e-12)
        assert report.summary["area_unit"] == "m"
        found[name] = background["area"] + nuclei["area"], background["pixels"] + nuclei["pixels"]
    area, pixels = found["utm"]
    assert area == pixels * 100
    # A thousandth of a degree at 48 degrees north is 111.2 m by 74.6 m.
    area, pixels = found["degrees"]
    assert area / pixels == pytest.approx(111.2 * 74.6, rel=0.01)


def test_a_block_read_tile_by_tile_has_the_same_regions(desk, tmp_path, monkeypatch):
    plan = _plan(desk, tile=16)
    assert plan.grid.tiles_per_block.area > 4
    tilseg.run(plan, tmp_path / "once.tilseg", outputs=("zarr",))
    read = infer.BlockWorker._read_piece

    def refuse_many(self, window, tiles):
        if len(tiles) > 1:
            raise InputError("E-INPUT-READ", path=plan.source, reason="is read tile by tile")
        return read(self, window, tiles)

    monkeypatch.setattr(infer.BlockWorker, "_read_piece", refuse_many)
    tilseg.run(plan, tmp_path / "tiles.tilseg", outputs=("zarr",))
    assert tree(tmp_path / "tiles.tilseg") == tree(tmp_path / "once.tilseg")


def test_a_block_left_out_still_has_its_table(desk, tmp_path):
    plan = _plan(desk)
    job = infer.Job(plan, str(tmp_path / "result"), infer.versions())
    stores = infer.Stores.create(tmp_path / "result", plan, classes=3)
    record = infer.leave_out(job, 2, "it was asked to be")
    assert stores.holds(plan, record)
    (tmp_path / TABLES / "2.npz").write_bytes(b"")
    assert not stores.holds(plan, record)


def test_a_least_area_in_metres_needs_a_map(desk, tmp_path):
    plan = _plan(desk, regions=RegionOptions(min_area=2, area_unit="m2"))
    with pytest.raises(UsageError) as caught:
        tilseg.run(plan, tmp_path / "x.tilseg")
    assert caught.value.id == "E-REGION-UNIT"
    assert not list(tmp_path.iterdir())
