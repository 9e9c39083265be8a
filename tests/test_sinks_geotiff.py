"""The COG export, read back with rasterio and judged by rio-cogeo."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import rasterio
from contracts.sink_contract import CLASSES, PROVENANCE, SinkContract, finished, random_mask
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rio_cogeo.cogeo import cog_validate

from tilseg.georef import Georef
from tilseg.sink import load_sink

# The contract's masks lie on no map; that a GeoTIFF of one says so is no news.
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

UTM = CRS.from_epsg(32633).to_wkt()
ROTATED_POLE = CRS.from_user_input("+proj=ob_tran +o_proj=longlat +lon_0=-40 +o_lat_p=22").to_wkt()
# Doubles that no decimal printing of fewer than 17 digits brings back.
ODD = (0.1 + 0.2, 0.0, 400000.1 / 3, 0.0, -math.pi / 10, 5e6 + 1 / 7)
TRANSFORMS = {
    "north-up": ODD,
    "south-up": (*ODD[:4], -ODD[4], ODD[5]),
    "rotated": (0.3, 0.1 / 3, 1e5 / 3, -0.1 / 7, -0.3, 5e6),
    "degrees": (1 / 3600, 0.0, -180.0, 0.0, -1 / 3600, 90.0),
}


def write(folder: Path, labels, georef: Georef, block: int = 384) -> Path:
    path = folder / "mask.tif"
    load_sink("geotiff").write(finished(folder / "mask.zarr", labels, block, georef=georef), path)
    return path


class TestGeoTiff(SinkContract):
    name = "geotiff"
    beside = (".aux.xml",)

    def read(self, path, level):
        options = {} if level == 0 else {"overview_level": level - 1}
        with rasterio.open(path, **options) as dataset:
            return dataset.read(1)


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("crs", [UTM, ROTATED_POLE, None], ids=["utm", "rotated pole", "none"])
def test_grid_is_the_inputs_to_the_last_bit(tmp_path, transform, crs):
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):  # as our readers have it
        path = write(tmp_path, random_mask(90, 131), Georef(crs, transform))
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="FALSE"), rasterio.open(path) as dataset:
        assert tuple(dataset.transform)[:6] == transform
        assert dataset.crs == (None if crs is None else CRS.from_wkt(crs))
        assert dataset.shape == (90, 131)


def test_crs_without_transform(tmp_path):
    path = write(tmp_path, random_mask(90, 131), Georef(UTM, None))
    with rasterio.open(path) as dataset:
        assert dataset.transform == rasterio.Affine.identity()
        assert dataset.crs == CRS.from_wkt(UTM)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 1500), (509, 511), (1201, 797)])
def test_is_a_valid_cog(tmp_path, rows, cols):
    path = write(tmp_path, random_mask(rows, cols), Georef(UTM, ODD))
    valid, errors, warnings = cog_validate(path, strict=True, quiet=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as dataset:
        assert dataset.block_shapes == [(512, 512)]
        assert dataset.compression.value == "DEFLATE"
        assert dataset.tags(ns="IMAGE_STRUCTURE").get("PREDICTOR", "1") == "1"
        levels = dataset.overviews(1)
    assert levels == [2**k for k in range(1, len(levels) + 1)]
    assert max(rows, cols) / 2 ** len(levels) <= 512


def test_overviews_take_the_commonest_class(tmp_path):
    # 3 of every 4 pixels are class 2; the one that decimation would keep is class 1.
    labels = np.full((1030, 1540), 2, np.uint8)
    labels[::2, ::2] = 1
    path = write(tmp_path, labels, Georef(UTM, ODD))
    with rasterio.open(path, overview_level=0) as overview:
        pixels = overview.read(1)
    assert pixels.shape == (515, 770)
    assert (pixels == 2).all()


def test_overviews_of_squares_are_exact(tmp_path):
    coarse = random_mask(640, 700)
    path = write(tmp_path, np.kron(coarse, np.ones((2, 2), np.uint8)), Georef(UTM, ODD))
    with rasterio.open(path, overview_level=0) as overview:
        np.testing.assert_array_equal(overview.read(1), coarse)


def test_palette_nodata_and_names(tmp_path):
    path = write(tmp_path, random_mask(60, 50), Georef(UTM, ODD))
    with rasterio.open(path) as dataset:
        assert dataset.count == 1
        assert dataset.nodata == 255
        assert dataset.colorinterp == (ColorInterp.palette,)
        palette = dataset.colormap(1)
        names = dataset.tags(1)
        assert dataset.descriptions == ("class",)
        made = dataset.tags()
    assert palette[1] == (0x1F, 0x77, 0xB4, 255)
    assert palette[2] == (0xFF, 0x7F, 0x0E, 255)
    assert names == {f"CLASS_{value}": c.name for value, c in enumerate(CLASSES)}
    assert made == {
        "AREA_OR_POINT": "Area",
        "TIFFTAG_SOFTWARE": PROVENANCE["software"],
        "TILSEG_MODEL": PROVENANCE["model"],
        "TILSEG_TILE": PROVENANCE["tile"],
    }


@pytest.mark.parametrize(
    "name",
    [
        "geo_rasterio/goes.tif",
        "geo_rasterio/rotated.tif",
        "geo_edge/inverted_lat.tif",
        "geo_edge/image_geos.tif",
        "geo_naip_wetlands/m_4709963_se_14_1_20120731.tif",
        "geo_nlcd_zion/srtm.tif",
    ],
)
def test_grid_of_real_images(real_data, tmp_path, name):
    with rasterio.open(real_data / name) as image:
        crs, transform = image.crs, tuple(image.transform)[:6]
    georef = Georef(None if crs is None else crs.to_wkt(), transform)
    path = write(tmp_path, random_mask(75, 64), georef)
    with rasterio.open(path) as dataset:
        assert tuple(dataset.transform)[:6] == transform
        assert dataset.crs == crs
