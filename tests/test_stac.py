"""The STAC item of a result, judged by pystac, GDAL and shapely."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from contracts.sink_contract import CLASSES, finished, random_mask
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import RasterExtension
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from tilseg.card import ClassInfo
from tilseg.georef import Georef
from tilseg.sinks.zarr import MaskStore
from tilseg.stac import stac_item

SHAPE = (409, 557)
MADE = {
    "software": "tilseg 0.1.0",
    "source": "scene",
    "model": "water",
    "model_sha256": "ab" * 32,
    "tile": "412 x 560",
    "halo": "20",
    "stride": "4",
}
FILES = [
    "mask.tif", "mask.tif.aux.xml", "mask.zarr", "mask.qml", "probabilities.tif",
    "probabilities.zarr", "labels.zarr", "regions.parquet", "regions.csv", "regions.gpkg",
    "summary.json", "run.json",
]  # fmt: skip
UTM = CRS.from_epsg(32633)
GRIDS = {
    "utm": (UTM, (9.5, -3.0, 399960.0, -3.0, -9.5, 5400000.0)),
    "south-up": (UTM, (10.0, 0.0, 399960.0, 0.0, 10.0, 5300000.0)),
    "degrees": (CRS.from_epsg(4326), (1 / 360, 0.0, -74.1, 0.0, -1 / 300, -33.3)),
    "no code": (
        CRS.from_proj4("+proj=laea +lat_0=49 +lon_0=9 +R=6371000"),
        (30.0, 0.0, 1e4 / 3, 0.0, -30.0, 2e4 / 3),
    ),
}


def item_of(folder: Path, georef: Georef, *, classes=CLASSES, recorded=None, files=FILES):
    store = finished(folder / "m.zarr", random_mask(*SHAPE), georef=georef)
    store.finish(name="scene", classes=classes, georef=georef, background=0, provenance=MADE)
    mask = MaskStore.open(store.path)
    return stac_item(mask, mask, recorded, files)


def georef_of(name: str) -> Georef:
    crs, transform = GRIDS[name]
    return Georef(crs.to_wkt(), transform)


def read(item: dict) -> pystac.Item:
    """As pystac reads its text; the schemas of STAC itself come with pystac, and are held."""
    content = json.loads(json.dumps(item, allow_nan=False))
    version = content["stac_version"]
    JsonSchemaSTACValidator().validate_core(content, pystac.STACObjectType.ITEM, version)
    return pystac.Item.from_dict(content)


@pytest.mark.parametrize("name", GRIDS)
def test_is_a_valid_item_at_its_place(tmp_path, name):
    item = read(item_of(tmp_path, georef_of(name)))
    crs, transform = GRIDS[name]
    west, south, east, north = item.bbox
    a, b, c, d, e, f = transform
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]) * SHAPE[::-1]
    x, y = shapely.get_coordinates(shapely.segmentize(shapely.LineString(corners), 9)).T
    edge = a * x + b * y + c, d * x + e * y + f
    box = [min(edge[0]), min(edge[1]), max(edge[0]), max(edge[1])]
    assert item.properties["proj:bbox"] == pytest.approx(box)
    # GDAL's way to degrees, of an edge cut into short pieces.
    lon, lat = rasterio.warp.transform(crs, "EPSG:4326", *edge)
    expected = shapely.Polygon(zip(lon, lat, strict=True))
    near = 1e-4 * max(east - west, north - south)
    assert (west, south, east, north) == pytest.approx(expected.bounds, abs=2 * near)
    outline = shapely.geometry.shape(item.geometry)
    assert outline.is_valid
    assert outline.hausdorff_distance(expected) < 2 * near
    projected = ProjectionExtension.ext(item)
    assert projected.crs_string is not None
    assert CRS.from_user_input(projected.code or projected.wkt2) == crs
    assert (projected.code is None) == (name == "no code")


def test_assets_say_how_to_read_them(tmp_path):
    item = read(item_of(tmp_path, georef_of("utm")))
    assert set(item.assets) == set(FILES) - {"mask.tif.aux.xml"}
    for name, asset in item.assets.items():
        assert asset.href == f"./{name}"
        assert asset.media_type
        assert asset.title
        assert asset.roles
    mask = item.assets["mask.tif"]
    assert mask.media_type == pystac.MediaType.COG
    own = ProjectionExtension.ext(mask)
    assert tuple(own.shape) == SHAPE
    assert tuple(own.transform) == GRIDS["utm"][1]
    (band,) = RasterExtension.ext(mask).bands
    assert (band.data_type, band.nodata, band.sampling) == ("uint8", 255, "area")
    *classes, missing = ClassificationExtension.ext(mask).classes
    assert [(c.value, c.title, c.color_hint) for c in classes] == [
        (value, c.name, c.color[1:].upper()) for value, c in enumerate(CLASSES)
    ]
    assert (missing.value, missing.nodata) == (255, True)
    bands = RasterExtension.ext(item.assets["probabilities.tif"]).bands
    assert [band.scale for band in bands] == [1 / 255] * len(CLASSES)
    named = item.assets["probabilities.tif"].extra_fields["bands"]
    assert [band["description"] for band in named] == [c.name for c in CLASSES]


def test_names_for_machines_are_words_and_differ(tmp_path):
    names = ["Fläche <&> µ", "水", "火", "a b", "a_b", "ok"]
    classes = tuple(ClassInfo(name=name, color="#010203") for name in names)
    mask = read(item_of(tmp_path, georef_of("utm"), classes=classes)).assets["mask.tif"]
    found = [c.name for c in ClassificationExtension.ext(mask).classes]
    assert found == ["Flache", "class_1", "class_2", "a_b_3", "a_b_4", "ok", "nodata"]


def test_time_is_the_images_or_any(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    known = read(item_of(tmp_path / "a", georef_of("utm"), recorded="2026-06-01T10:30:00Z"))
    assert known.datetime.isoformat() == "2026-06-01T10:30:00+00:00"
    assert "start_datetime" not in known.properties
    unknown = read(item_of(tmp_path / "b", georef_of("utm")))
    assert unknown.datetime is None
    assert unknown.common_metadata.start_datetime.year == 1
    assert unknown.common_metadata.end_datetime.year == 9999


def test_how_it_was_made_without_when_or_where(tmp_path):
    item = item_of(tmp_path, georef_of("utm"))
    made = item["properties"]
    assert made["processing:software"] == {"tilseg": "0.1.0"}
    assert (made["tilseg:halo"], made["tilseg:stride"], made["tilseg:tile"]) == (20, 4, "412 x 560")
    assert made["tilseg:model_sha256"] == MADE["model_sha256"]
    assert item["id"] == "scene-water"
    assert str(tmp_path) not in json.dumps(item)


def test_over_the_antimeridian(tmp_path):
    georef = Georef(CRS.from_epsg(32601).to_wkt(), (60.0, 0.0, 3.5e5, 0.0, -60.0, 7.4e6))
    item = read(item_of(tmp_path, georef))
    west, south, east, north = item.bbox
    assert east < 0 < west, "west of the line, then east of it"
    assert item.geometry["type"] == "MultiPolygon"
    # GDAL gives the box in the same order.
    left, top = 3.5e5, 7.4e6
    bounds = (left, top - 60 * SHAPE[0], left + 60 * SHAPE[1], top)
    assert (west, south, east, north) == pytest.approx(
        transform_bounds(CRS.from_epsg(32601), "EPSG:4326", *bounds), abs=1e-4
    )


def test_the_whole_world_is_one_box(tmp_path):
    grid = (360 / SHAPE[1], 0.0, -180.0, 0.0, -180 / SHAPE[0], 90.0)
    item = read(item_of(tmp_path, Georef(CRS.from_epsg(4326).to_wkt(), grid)))
    assert item.bbox == pytest.approx([-180, -90, 180, 90], abs=1e-6)


def test_a_corner_beside_the_earth_leaves_the_outline_out(tmp_path):
    crs = CRS.from_proj4("+proj=geos +h=35785831 +lon_0=-75 +sweep=x")
    grid = (2e4, 0.0, -5.6e6, 0.0, -2e4, 4.1e6)
    item = read(item_of(tmp_path, Georef(crs.to_wkt(), grid)))
    assert item.geometry is None
    assert item.bbox is None
    assert math.isfinite(sum(item.properties["proj:bbox"]))


@pytest.mark.parametrize("georef", [Georef(), Georef(None, GRIDS["utm"][1])])
def test_without_a_crs_there_is_none(tmp_path, georef):
    assert item_of(tmp_path, georef) is None
