"""Masks of maps: their place to the last bit, and areas as geodesy has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from tiny import STEADY, noise, save_tiny_model

import tilseg
from tilseg.errors import InputError
from tilseg.source import open_source

# What can't be segmented: float64 pixels, and JPEG 2000.
REFUSED = {"image_nan.tif", "s2_band.jp2"}
SHAPE = (83, 61)
GRIDS = {
    "EPSG:4326": (0.011, 0, 12.0, 0, -0.013, 61.0),
    "EPSG:3857": (40.0, 0, 1e6, 0, -37.0, 9e6),
    "EPSG:32633": (10.0, 0, 4e5, 0, -12.0, 5.3e6),
    "EPSG:3031": (900.0, 100.0, -3e4, 100.0, -900.0, 9e5),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[int, str]:
    """The path of a model for each number of bands."""
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for bands in (1, 3):
        normal = STEADY.model_copy(update={"mean": (99.0,) * bands, "std": (60.0,) * bands})
        path = folder / f"{bands}.safetensors"
        paths[bands] = str(save_tiny_model(path, bands=bands, normalization=normal))
    return paths


def segment(image: Path, models: dict[int, str], output: Path, resolution: Any) -> dict[str, Any]:
    source = open_source(image)
    network = tilseg.load_model(models[source.bands], threads=1)
    plan = tilseg.make_plan(source, network, resolution=resolution, threads=1, memory="2GB")
    return tilseg.run(plan, output).summary


@pytest.mark.parametrize("times", ["native", 6.7])
def test_real_maps_keep_their_place_to_the_last_bit(real_data, models, tmp_path, times):
    done = 0
    for path in sorted((real_data / "geo_edge").iterdir()):
        if path.name in REFUSED:
            with pytest.raises(InputError):
                open_source(path)
            continue
        with rasterio.open(path) as dataset:
            crs, transform, shape = dataset.crs, tuple(dataset.transform), dataset.shape
        if times == "native" and shape[0] * shape[1] > 300_000:
            continue
        side = open_source(path).georef.pixel_size.rows
        result = tmp_path / f"{path.stem}.tilseg"
        segment(path, models, result, times if times == "native" else times * side)
        with rasterio.open(result / "mask.tif") as dataset:
            assert dataset.crs == crs, path.name
            assert tuple(dataset.transform) == transform, path.name
            assert dataset.shape == shape, path.name
        done += 1
    assert done >= (6 if times == "native" else 13)


@pytest.mark.parametrize("code", GRIDS)
@pytest.mark.parametrize("resolution", ["native", 2.7])
def test_areas_are_those_of_geodesic_outlines(models, tmp_path, code, resolution):
    pyproj = pytest.importorskip("pyproj")
    transform = rasterio.Affine(*GRIDS[code])
    path = tmp_path / "map.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=SHAPE[0],
        width=SHAPE[1],
        count=1,
        dtype="uint8",
        crs=CRS.from_user_input(code),
        transform=transform,
    ) as dataset:
        dataset.write(noise(*SHAPE, bands=1)[..., 0], 1)
    own = open_source(path).georef.pixel_size
    wanted = resolution if resolution == "native" else resolution * own.rows
    summary = segment(path, models, tmp_path / "map.tilseg", wanted)
    down, across = summary["image_pixels"]
    wanted = (1, 1) if resolution == "native" else (2.7, wanted / own.cols)
    assert (down, across) == pytest.approx(wanted, rel=1e-12)
    height, width = summary["height"] * down, summary["width"] * across
    side = np.linspace(0, 1, 4001)
    rows = height * np.concatenate([0 * side, side, 0 * side + 1, 1 - side])
    cols = width * np.concatenate([side, 0 * side + 1, 1 - side, 0 * side])
    crs = pyproj.CRS(code)
    to_lon_lat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    lon, lat = to_lon_lat.transform(*(transform @ (cols, rows)))
    expected = abs(crs.get_geod().polygon_area_perimeter(lon, lat)[0])
    assert summary["nodata_pixels"] == 0
    assert summary["area_unit"] == "m"
    found = sum(one["area"] for one in summary["classes"])
    # UTM counts as true to scale, which it is to 0.08 % here.
    assert found == pytest.approx(expected, rel=1e-3 if code == "EPSG:32633" else 1e-7)
    stated = json.loads((tmp_path / "map.tilseg" / "summary.json").read_bytes())
    assert stated["classes"] == summary["classes"]
