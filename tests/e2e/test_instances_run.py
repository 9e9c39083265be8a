"""Instances of a run and of a mask: told apart as asked for, measured, continued, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import tifffile
import zarr
from instances_oracle import discs, grown, watershed_cut
from regions_oracle import whole_labels
from scipy.ndimage import binary_erosion
from skimage.measure import regionprops_table
from tiny import noise, save_tiny_model, tree

import tilseg
from tilseg.card import read_card
from tilseg.cli.main import main
from tilseg.errors import ExistsError, InputError, Stopped, UsageError
from tilseg.instance_rule import Border, Watershed
from tilseg.plan import RegionOptions
from tilseg.sources.base import FileSource

SHAPE = (113, 167)
# Random weights make ragged regions, whose maxima are shallow.
RULE = Watershed(0.4)
NAMES = ("label", "area", "bbox", "centroid", "perimeter_crofton", "intensity_mean")


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    save_tiny_model(folder / "tiny.safetensors", classes=3, instances=RULE)
    tifffile.imwrite(folder / "image.tif", noise(*SHAPE), photometric="rgb")
    return folder


def _plan(desk: Path, **options: Any) -> Any:
    source = tilseg.open_source(desk / "image.tif")
    network = tilseg.load_model(str(desk / "tiny.safetensors"), threads=1)
    return tilseg.make_plan(source, network, **{"tile": 32, "threads": 1} | options)


@pytest.fixture(scope="module")
def result(desk) -> Path:
    """A run as the card of its model says."""
    plan = _plan(desk, regions=RegionOptions(labels=True))
    tilseg.run(plan, desk / "whole.tilseg", outputs=("zarr",))
    return desk / "whole.tilseg"


def _pixels(folder: Path, name: str = "mask.zarr") -> Any:
    return zarr.open_group(folder / name, mode="r")["0"][:]


def _columns(folder: Path) -> dict[str, Any]:
    table = pyarrow.parquet.read_table(folder / "regions.parquet")
    return {name: table[name].to_numpy() for name in table.column_names}


def _command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return int(ended.value.code)


def test_the_table_is_of_instances_as_the_card_tells_them_apart(result):
    mask, labels, found = _pixels(result), _pixels(result, "labels.zarr"), _columns(result)
    expected = watershed_cut(mask, RULE.depth, 2)
    assert expected.max() > 1.1 * whole_labels(mask).max()
    np.testing.assert_array_equal(labels, expected)
    properties = regionprops_table(expected, noise(*SHAPE), properties=NAMES)
    for name, values in properties.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    first = np.unique(expected, return_index=True)[1][1:]
    np.testing.assert_array_equal(found["class"], mask.ravel()[first])


def test_the_receipt_and_the_summary_say_how(result):
    rule = {"way": "watershed", "depth": 0.4}
    receipt = json.loads((result / "run.json").read_text())
    assert receipt["plan"]["regions"]["instances"] == rule
    assert receipt["fingerprint"]["regions"]["instances"] == rule
    assert receipt["model"]["instances"] == rule
    summary = json.loads((result / "summary.json").read_text())
    assert summary["instances"] == rule
    counts = [info["regions"] for info in summary["classes"]]
    assert sum(counts[1:]) == _pixels(result, "labels.zarr").max()


def test_measure_tells_them_apart_as_the_run_did(desk, result, tmp_path):
    image, regions = desk / "image.tif", RegionOptions(labels=True)
    tilseg.measure(result, image=image, output=tmp_path / "again", regions=regions)
    for name in ("regions.csv", "regions.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (result / name).read_bytes()
    np.testing.assert_array_equal(
        _pixels(tmp_path / "again", "labels.zarr"), _pixels(result, "labels.zarr")
    )


def test_another_tile_has_the_same_instances(desk, result, tmp_path):
    tilseg.run(_plan(desk, tile=64), tmp_path / "other.tilseg", outputs=("zarr",))
    # The mask is the same only while no pixel of this image is near a tie.
    np.testing.assert_array_equal(_pixels(tmp_path / "other.tilseg"), _pixels(result))
    csv = (tmp_path / "other.tilseg" / "regions.csv").read_bytes()
    assert csv == (result / "regions.csv").read_bytes()


def test_stopped_in_every_phase_it_ends_in_the_same_bytes(desk, result):
    output = desk / "stopped.tilseg"
    partial = desk / ".stopped.tilseg.partial"

    def run(stop: Any, progress: Any) -> Any:
        plan = _plan(desk, regions=RegionOptions(labels=True))
        return tilseg.run(plan, output, outputs=("zarr",), stop=stop, progress=progress)

    for phase in ("instances", "regions", "labels"):
        seen: list[str] = []
        with pytest.raises(Stopped):
            run(
                lambda seen=seen, phase=phase: phase in seen,
                lambda s, seen=seen: seen.append(s.phase),
            )
        # As a power cut leaves it: what is not part of the result was never synced.
        (partial / "instances" / "pieces" / "zarr.json").write_bytes(b"")
    assert run(lambda: False, lambda _: None).done == 0
    assert tree(output) == tree(result)
    assert not partial.exists()


def test_a_tile_that_can_not_be_read_is_in_no_instance(desk, result, monkeypatch):
    plan = _plan(desk, regions=RegionOptions(labels=True))
    bad = plan.grid.block_at(1).tiles[0]
    read = FileSource.read

    def refuse(self, window, *rest):
        if window.intersection(bad.write).size.area:
            raise InputError("E-INPUT-READ", path=plan.source, reason="is torn here")
        return read(self, window, *rest)

    monkeypatch.setattr(FileSource, "read", refuse)
    report = tilseg.run(plan, desk / "bad.tilseg", outputs=("zarr",), on_bad_tile="mask")
    assert report.status == "degraded"
    mask = _pixels(desk / "bad.tilseg")
    assert (mask == 255).sum() >= bad.write.size.area
    expected = watershed_cut(mask, RULE.depth, 2)
    np.testing.assert_array_equal(_pixels(desk / "bad.tilseg", "labels.zarr"), expected)
    properties = regionprops_table(expected, noise(*SHAPE), properties=NAMES)
    for name, values in properties.items():
        np.testing.assert_array_equal(_columns(desk / "bad.tilseg")[name], values, err_msg=name)


def test_another_way_is_another_run(desk, result):
    plan = _plan(desk, regions=RegionOptions(labels=True, instances=None))
    with pytest.raises(ExistsError, match="instances"):
        tilseg.run(plan, result, outputs=("zarr",))


def test_one_file_has_no_room_for_what_was_asked_by_name(desk, tmp_path):
    tilseg.run(_plan(desk), tmp_path / "mask.tif")
    plan = _plan(desk, regions=RegionOptions(instances=Watershed(2)))
    with pytest.raises(UsageError):
        tilseg.run(plan, tmp_path / "other.tif")


def test_small_instances_are_left_out(desk, result, tmp_path):
    plan = _plan(desk, regions=RegionOptions(labels=True, min_area=40))
    tilseg.run(plan, tmp_path / "large.tilseg", outputs=("zarr",))
    area = _columns(result)["area"]
    kept = area >= 40
    assert 3 < kept.sum() < len(kept)
    np.testing.assert_array_equal(_columns(tmp_path / "large.tilseg")["area"], area[kept])
    number = np.append(0, np.cumsum(kept) * kept)
    labels = number[_pixels(result, "labels.zarr")]
    np.testing.assert_array_equal(_pixels(tmp_path / "large.tilseg", "labels.zarr"), labels)


@pytest.fixture
def ringed(tmp_path) -> Path:
    """Discs with a border class between them and round them."""
    inner = discs(SHAPE, 60, (4, 9), seed=2)
    mask = np.where(inner == 1, 1, 0).astype(np.uint8)
    mask[(inner == 1) & (discs(SHAPE, 60, (2.5, 7.5), seed=2) == 0)] = 2
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    return tmp_path / "mask.tif"


def test_measure_grows_seeds_back_into_their_borders(ringed, tmp_path, capsys):
    options = ("--instances", "border:2", "--border-class", 2, "--labels", "--connectivity", 4)
    assert _command("measure", ringed, "-o", tmp_path / "out", *options, "--json") == 0
    expected = grown(tifffile.imread(ringed), Border(2, 2), 1)
    np.testing.assert_array_equal(_pixels(tmp_path / "out", "labels.zarr"), expected)
    totals = json.loads(capsys.readouterr().out)
    assert totals["regions"] == expected.max()
    assert totals["background_pixels"] == (expected == 0).sum()
    assert [info["value"] for info in totals["classes"]] == [1]


def test_measure_of_any_mask_joins_what_touches_unless_asked(ringed):
    mask = tifffile.imread(ringed)
    assert len(tilseg.measure(ringed)) == whole_labels(mask).max()
    found = tilseg.measure(ringed, regions=RegionOptions(instances=Watershed()))
    assert len(found) == watershed_cut(mask, 0.75, 2).max()


def test_a_model_trained_with_borders_tells_objects_apart_by_them(tmp_path):
    for number in range(2):
        mask = discs((61, 83), 9, (8, 12), seed=number)
        mask[binary_erosion(mask, iterations=2) != mask] = 2
        for folder, pixels in (("images", mask * 100), ("masks", mask)):
            (tmp_path / folder).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / folder / f"{number}.tif", pixels)
    model = tmp_path / "cells.safetensors"
    small = ("--depth", 1, "--width", 4, "--batch", 2, "--patch", 20, "--steps", 60)
    classes = ("--classes", "background,cell,border", "--validation-fraction", 0.5)
    folders = (tmp_path / "images", tmp_path / "masks")
    assert _command("train", *folders, "-o", model, *small, *classes) == 0
    assert read_card(model).instances == Border(3, 2)
    output = tmp_path / "0.tilseg"
    image = tmp_path / "images" / "0.tif"
    options = ("--labels", "--outputs", "zarr", "--tile", 32, "--threads", 1)
    assert _command("run", image, "--model", model, "-o", output, *options) == 0
    expected = grown(_pixels(output), Border(3, 2), 2)
    assert expected.max() >= 1
    np.testing.assert_array_equal(_pixels(output, "labels.zarr"), expected)


def test_a_class_named_border_is_found_by_its_name():
    rule = RegionOptions(instances=Border()).settled(None, ("background", "cell", "border")).rule
    assert rule == Border(border=2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--instances", "border"), "E-INSTANCE-BORDER"),
        (("--instances", "border:65"), "E-OPTION"),
        (("--instances", "watershed:-1"), "E-OPTION"),
        (("--instances", "snakes"), "E-OPTION"),
        (("--border-class", "2"), "E-USAGE"),
    ],
)
def test_what_can_not_be_asked_for_is_refused_in_one_line(ringed, capsys, options, says):
    assert _command("measure", ringed, *options) == 2
    assert f"error[{says}]" in capsys.readouterr().err


def test_a_mask_with_negative_classes_is_refused(tmp_path):
    mask = np.full(SHAPE, -3, np.int16)
    with pytest.raises(InputError) as caught:
        tilseg.measure(mask, regions=RegionOptions(instances=Watershed()))
    assert caught.value.id == "E-MASK-NEGATIVE"


def test_numbers_of_any_size_are_classes(tmp_path):
    mask = discs(SHAPE, 40, (4, 9), seed=5).astype(np.uint16) * 65_534
    mask[:, :80] //= 2
    found = tilseg.measure(mask, regions=RegionOptions(instances=Watershed()))
    small = (mask // 30_000).astype(np.uint8)
    assert len(found) == watershed_cut(small, 0.75, 2).max()
    assert set(found.columns["class"]) == {32_767, 65_534}
