"""Runs on resampled images: places, units and tables, continued and measured again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import rasterio
import shapely.geometry
import tifffile
import zarr
from safetensors.numpy import load_file, save_file
from tiny import STEADY, noise, save_tiny_model, tilseg, tree

import tilseg as package
from tilseg.card import read_card
from tilseg.errors import ExistsError, InputError, Stopped
from tilseg.plan import RegionOptions
from tilseg.resample import nearest
from tilseg.source import open_source
from tilseg.sources.resampled import on_grid
from tilseg.window import Window

SHAPE = (211, 307)
PLACE = rasterio.Affine(10.000000000000002, 0, 412345.67, 0, -12.3, 5.1e6)


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    save_tiny_model(folder / "tiny.safetensors", classes=3, normalization=STEADY)
    trained_at(folder, "half", 0.5, "um")
    trained_at(folder, "far", 20.0, "m")
    tifffile.imwrite(
        folder / "slide.tif",
        noise(*SHAPE),
        photometric="rgb",
        resolution=(1e4 / 0.31, 1e4 / 0.29),
        resolutionunit="CENTIMETER",
    )
    with rasterio.open(
        folder / "map.tif",
        "w",
        driver="GTiff",
        height=SHAPE[0],
        width=SHAPE[1],
        count=3,
        dtype="uint8",
        crs="EPSG:32633",
        transform=PLACE,
        nodata=0,
    ) as dataset:
        pixels = noise(*SHAPE, seed=1)
        pixels[50:90, 100:170] = 0
        dataset.write(np.moveaxis(np.maximum(pixels, pixels.any(axis=2, keepdims=True)), 2, 0))
    return folder


def trained_at(folder: Path, name: str, size: float, unit: str) -> None:
    """The tiny model with a pixel size on its card."""
    card = read_card(folder / "tiny.safetensors")
    changed = card.model_copy(update={"pixel_size": size, "unit": unit})
    weights = load_file(folder / "tiny.safetensors")
    save_file(weights, folder / f"{name}.safetensors", changed.to_metadata())


def planned(desk: Path, image: str, model: str = "tiny", **options: Any) -> Any:
    network = package.load_model(str(desk / f"{model}.safetensors"), threads=1)
    return package.make_plan(
        open_source(desk / image), network, **{"tile": 32, "threads": 1} | options
    )


def pixels_of(result: Path) -> Any:
    return zarr.open_group(result / "mask.zarr", mode="r")["0"][:]


def columns_of(path: Path) -> dict[str, Any]:
    table = pyarrow.parquet.read_table(path / "regions.parquet")
    return {name: table[name].to_numpy() for name in table.column_names}


def test_the_mask_of_a_map_lies_on_the_maps_own_grid(desk, tmp_path):
    plan = planned(desk, "map.tif", "far")
    with rasterio.open(desk / "map.tif") as dataset:
        profile, hole = dataset.profile, dataset.dataset_mask() == 0
    assert plan.factors == pytest.approx((20 / 12.3, 2))
    package.run(plan, tmp_path / "map.tilseg")
    stored = pixels_of(tmp_path / "map.tilseg")
    assert stored.shape == (round(211 * 12.3 / 20), round(307 / 2)) == plan.grid.shape
    with rasterio.open(tmp_path / "map.tilseg" / "mask.tif") as dataset:
        assert dataset.crs == profile["crs"]
        assert tuple(dataset.transform) == tuple(profile["transform"])
        assert dataset.shape == SHAPE
        exported = dataset.read(1)
    rows = nearest(0, SHAPE[0], stored.shape[0], plan.factors.rows)
    cols = nearest(0, SHAPE[1], stored.shape[1], plan.factors.cols)
    np.testing.assert_array_equal(exported, stored[np.ix_(rows, cols)])
    assert set(np.unique(exported)) == {0, 1, 2, 255}
    # The hole is where it was, but for the pixels that its edge runs through.
    assert ((exported == 255) != hole).sum() < 2 * (40 + 70 + 40 + 70)
    summary = json.loads((tmp_path / "map.tilseg" / "summary.json").read_bytes())
    assert summary["pixel_size"] == pytest.approx([20, 20])
    assert summary["image_pixels"] == list(plan.factors)
    valid = sum(one["area"] for one in summary["classes"])
    assert valid == pytest.approx((stored != 255).sum() * 400)
    assert valid == pytest.approx((~hole).sum() * 123, rel=0.01)
    regions = columns_of(tmp_path / "map.tilseg")
    np.testing.assert_allclose(regions["area_m2"], regions["area"] * 400.0, rtol=1e-12)
    x, y = PLACE @ (
        (regions["centroid-1"] + 0.5) * plan.factors.cols,
        (regions["centroid-0"] + 0.5) * plan.factors.rows,
    )
    np.testing.assert_allclose(regions["centroid_x"], x, rtol=1e-12)
    np.testing.assert_allclose(regions["centroid_y"], y, rtol=1e-12)


def test_the_mask_of_a_slide_has_the_models_pixels_and_says_where_they_lie(desk, tmp_path):
    plan = planned(desk, "slide.tif", "half")
    assert plan.factors == pytest.approx((0.5 / 0.29, 0.5 / 0.31))
    package.run(plan, tmp_path / "s.tilseg", outputs=("zarr", "tif"))
    exported = open_source(tmp_path / "s.tilseg" / "mask.tif")
    assert exported.shape == plan.grid.shape
    size = exported.georef.pixel_size
    assert (size.rows, size.cols, size.unit) == (pytest.approx(0.5), pytest.approx(0.5), "um")
    group = zarr.open_group(tmp_path / "s.tilseg" / "mask.zarr", mode="r").attrs
    assert group["tilseg"]["georef"]["factors"] == list(plan.factors)
    scale, shift = group["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    # The corner of the mask is that of the image, whose first pixel has its centre at 0.
    corner = np.array(shift["translation"]) - np.array(scale["scale"]) / 2
    np.testing.assert_allclose(corner, [-0.29 / 2, -0.31 / 2], rtol=1e-6)
    np.testing.assert_allclose(scale["scale"], 0.5, rtol=1e-6)
    regions = columns_of(tmp_path / "s.tilseg")
    np.testing.assert_allclose(regions["area_um2"], regions["area"] * 0.25, rtol=1e-6)


def test_intensities_are_those_of_the_resampled_image_and_can_be_measured_again(desk, tmp_path):
    plan = planned(desk, "slide.tif", resolution="0.47")
    package.run(plan, tmp_path / "s.tilseg", outputs=("zarr",))
    again = package.measure(tmp_path / "s.tilseg", image=open_source(desk / "slide.tif"))
    first = columns_of(tmp_path / "s.tilseg")
    for name, values in again.columns.items():
        np.testing.assert_array_equal(values, first[name], name)
    source = on_grid(open_source(desk / "slide.tif"), plan.factors)
    pixels, mask = source.read(Window.whole(source.shape)), pixels_of(tmp_path / "s.tilseg")
    whole = first["class"] == 1
    total = (first["intensity_mean-2"] * first["area"])[whole].sum()
    assert total == pytest.approx(pixels[mask == 1][:, 2].sum())
    with pytest.raises(InputError) as caught:
        package.measure(tmp_path / "s.tilseg", image=noise(50, 60))
    assert caught.value.id == "E-REGION-IMAGE"


def test_outlines_are_in_pixels_of_the_slide(desk, tmp_path):
    regions = RegionOptions(polygons=("geojson",))
    plan = planned(desk, "slide.tif", resolution="0.47", regions=regions)
    package.run(plan, tmp_path / "s.tilseg", outputs=("zarr",))
    package.measure(tmp_path / "s.tilseg", output=tmp_path / "again", regions=regions)
    table = columns_of(tmp_path / "s.tilseg")
    for path in (tmp_path / "s.tilseg", tmp_path / "again"):
        features = json.loads((path / "regions.geojson").read_bytes())["features"]
        assert len(features) == len(table["area"])
        outlines = [shapely.geometry.shape(one["geometry"]) for one in features]
        areas = np.array([one.area for one in outlines])
        # QuPath keeps two digits of a pixel.
        np.testing.assert_allclose(areas * 0.29 * 0.31, table["area_um2"], rtol=0.02)
        corners = np.array([one.bounds for one in outlines])
        np.testing.assert_allclose(corners[:, 1], table["bbox-0"] * plan.factors.rows, atol=0.01)
        np.testing.assert_allclose(corners[:, 2], table["bbox-3"] * plan.factors.cols, atol=0.01)


def test_tiles_leave_no_trace(desk, tmp_path):
    masks = []
    for tile in (24, 64, 4096):
        plan = planned(desk, "map.tif", resolution=6.7, tile=tile)
        package.run(plan, tmp_path / f"{tile}.tilseg", outputs=("zarr",))
        masks.append(pixels_of(tmp_path / f"{tile}.tilseg"))
    for mask in masks[:2]:
        np.testing.assert_array_equal(mask == 255, masks[2] == 255)
        # Other tile shapes, other last bits: a label may flip where two classes tie.
        assert (mask != masks[2]).mean() < 1e-4


def test_a_run_goes_on_at_the_same_pixel_size_and_at_no_other(desk, tmp_path):
    options = {"resolution": "0.41um", "regions": RegionOptions(labels=True)}
    plan = planned(desk, "slide.tif", **options)
    package.run(plan, tmp_path / "whole.tilseg")
    begun: list[int] = []

    def on_progress(progress: Any) -> None:
        if progress.done:
            begun.append(progress.done)

    with pytest.raises(Stopped):
        package.run(plan, tmp_path / "s.tilseg", progress=on_progress, stop=lambda: bool(begun))
    other = planned(desk, "slide.tif", resolution="0.42um")
    with pytest.raises(ExistsError, match="resampling"):
        package.run(other, tmp_path / "s.tilseg")
    report = package.run(plan, tmp_path / "s.tilseg")
    assert 0 < report.done < len(plan.grid)
    assert tree(tmp_path / "s.tilseg") == tree(tmp_path / "whole.tilseg")
    with pytest.raises(ExistsError, match="resampling"):
        package.run(planned(desk, "slide.tif"), tmp_path / "s.tilseg")
    receipt = json.loads((tmp_path / "s.tilseg" / "run.json").read_bytes())
    assert receipt["plan"]["factors"] == list(plan.factors)
    assert receipt["fingerprint"]["resampling"] == list(plan.factors)


def test_memory_and_disk_count_what_resampling_takes(desk, tmp_path):
    from tilseg.disk import needed
    from tilseg.tiling import needed_memory

    model = package.load_model(str(desk / "tiny.safetensors"), threads=1)
    source = open_source(desk / "map.tif")
    plan = planned(desk, "map.tif", resolution=30)
    plain = needed_memory(plan.grid, 1, source, model, 2)
    assert needed_memory(plan.grid, 1, on_grid(source, plan.factors), model, 2) > plain
    grown = needed(plan, 3, ("zarr", "tif"), is_map=True).parts
    level = needed(plan, 3, ("zarr", "tif"), is_map=False).parts
    # On the image's grid it has 3 x 2.44 times the pixels.
    assert grown["mask.tif"] == pytest.approx(level["mask.tif"] * 3 * 30 / 12.3, rel=1e-3)


def test_the_command_says_what_it_does(desk, tmp_path):
    slide = desk / "slide.tif"
    found = tilseg("run", slide, "--model", desk / "half.safetensors", cwd=tmp_path, check=True)
    assert "resampling to 0.5 um, as the model was trained" in found.stderr
    facts = tilseg("plan", slide, "--resolution", "1um", "--json", cwd=desk, check=True)
    facts = json.loads(facts.stdout)
    assert facts["resampling"] == pytest.approx([1 / 0.29, 1 / 0.31])
    assert (facts["pixel_size"], facts["unit"]) == (pytest.approx([1, 1]), "um")
    (tmp_path / "job.toml").write_text("mpp = 1\npixel-size = 0.5\n")
    table = tilseg("plan", slide, "--config", "job.toml", cwd=tmp_path, check=True).stdout
    assert "1 x 1 um, resampled: 2 x 2 of the image's pixels" in table
    native = tilseg(
        "plan", slide, "--model", desk / "half.safetensors", "--mpp", "native", cwd=desk, check=True
    )
    assert "the model was trained at 0.5 um" in native.stderr
    stated = tilseg("info", slide, "--pixel-size", "0.25", cwd=desk, check=True)
    assert "0.25 x 0.25 um" in stated.stdout
    for arguments, code in (
        (("--mpp", "0.01"), 4),
        (("--mpp", "x"), 2),
        (("--mpp", "1", "--level", "0"), 2),
        (("--pixel-size", "0"), 2),
    ):
        refused = tilseg("plan", slide, *arguments, cwd=desk)
        assert refused.returncode == code
        assert refused.stderr.count("\n") == 1
        assert refused.stderr.startswith("error[")


def test_a_picture_without_a_size_is_told_how_to_state_one(tmp_path):
    tifffile.imwrite(tmp_path / "bare.tif", noise(31, 47), photometric="rgb", metadata=None)
    refused = tilseg("plan", "bare.tif", "--mpp", "0.5", cwd=tmp_path)
    assert (refused.returncode, refused.stderr.count("\n")) == (4, 1)
    assert "--pixel-size 0.25um" in refused.stderr
    plan = tilseg("plan", "bare.tif", "--mpp", "0.5", "--pixel-size", "250nm", cwd=tmp_path)
    assert "0.5 x 0.5 um, resampled: 2 x 2 of the image's pixels" in plan.stdout
