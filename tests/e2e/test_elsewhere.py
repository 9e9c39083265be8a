"""A result as the programs of others see it: GDAL, rio-cogeo, pystac, ome-zarr, tifffile, geopandas."""

from __future__ import annotations

import hashlib
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pystac
import pytest
import rasterio
import tifffile
import zarr
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader
from ome_zarr_models.v05 import Image, ImageLabel
from pystac.extensions.projection import ProjectionExtension
from pystac.validation.stac_validator import GetSchemaError, JsonSchemaSTACValidator
from rio_cogeo.cogeo import cog_validate
from tiny import STEADY, noise, save_tiny_model

import tilseg
from tilseg.plan import RegionOptions

SHAPE = (239, 311)
FORMATS = ("geojson", "geoparquet", "gpkg", "fgb")
COLORS = {0: (0, 0x80, 0x40), 1: (40, 0x80, 0x40), 2: (80, 0x80, 0x40)}
GRID = (10.0, 0.0, 399960.0, 0.0, -10.0, 5400000.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    return save_tiny_model(path, classes=3, normalization=STEADY)


@pytest.fixture(scope="module")
def scene(tmp_path_factory, model) -> Path:
    """The result of an image on a map, segmented at pixels 2.5 times as large."""
    folder = tmp_path_factory.mktemp("scene")
    pixels = noise(*SHAPE, seed=3)
    profile = {"driver": "GTiff", "height": SHAPE[0], "width": SHAPE[1], "count": 3}
    place = {"crs": "EPSG:32633", "transform": rasterio.Affine(*GRID), "dtype": "uint8"}
    with rasterio.open(folder / "scene.tif", "w", **profile, **place) as dataset:
        dataset.update_tags(TIFFTAG_DATETIME="2022:02:05 00:00:20")
        dataset.write(pixels.transpose(2, 0, 1))
    source = tilseg.open_source(folder / "scene.tif")
    plan = tilseg.make_plan(
        source,
        tilseg.load_model(model),
        resolution="25m",
        probabilities=True,
        regions=RegionOptions(polygons=FORMATS, labels=True),
    )
    tilseg.run(plan, folder / "scene.tilseg")
    return folder / "scene.tilseg"


@pytest.fixture(scope="module")
def slide(tmp_path_factory, model) -> Path:
    folder = tmp_path_factory.mktemp("slide")
    tifffile.imwrite(
        folder / "slide.tif",
        noise(*SHAPE, seed=4),
        photometric="rgb",
        resolution=(2e4, 4e4),
        resolutionunit="CENTIMETER",
    )
    source = tilseg.open_source(folder / "slide.tif")
    tilseg.run(tilseg.make_plan(source, tilseg.load_model(model)), folder / "slide.tilseg")
    return folder / "slide.tilseg"


def test_what_a_map_has_beside_its_mask(scene, slide):
    own = {"mask.tif.aux.xml", "mask.qml", "stac.json"}
    assert own <= {path.name for path in scene.iterdir()}
    assert not own & {path.name for path in slide.iterdir()}
    assert own <= json.loads((scene / "run.json").read_text())["files"].keys()
    assert tilseg.verify(scene) == []
    (scene / "mask.qml").write_bytes((scene / "mask.qml").read_bytes() + b" ")
    assert [damage.path for damage in tilseg.verify(scene)] == ["mask.qml"]
    (scene / "mask.qml").write_bytes((scene / "mask.qml").read_bytes()[:-1])


def test_geotiffs_are_valid_cogs_that_say_how_they_were_made(scene, model):
    for name in ("mask.tif", "probabilities.tif"):
        assert cog_validate(scene / name, strict=True, quiet=True) == (True, [], [])
        with rasterio.open(scene / name) as dataset:
            tags = dataset.tags()
        card = tilseg.load_model(model).card
        assert tags == {
            "AREA_OR_POINT": "Area",
            "TIFFTAG_SOFTWARE": f"tilseg {tilseg.__version__}",
            "TILSEG_SOURCE": "scene",
            "TILSEG_MODEL": "tiny",
            "TILSEG_MODEL_SHA256": hashlib.sha256(model.read_bytes()).hexdigest(),
            "TILSEG_TILE": tags["TILSEG_TILE"],
            "TILSEG_HALO": str(card.halo),
            "TILSEG_STRIDE": str(card.stride),
        }
    plan = json.loads((scene / "run.json").read_text())["plan"]
    assert tags["TILSEG_TILE"] == "{} x {}".format(*plan["grid"]["tile"])


def test_gdal_counts_what_the_table_counts(scene):
    rows = ET.parse(scene / "mask.tif.aux.xml").getroot().findall(".//Row")
    with rasterio.open(scene / "mask.tif") as dataset:
        values, counts = np.unique(dataset.read(1), return_counts=True)
    told = {int(row[0].text): int(row[5].text) for row in rows}
    assert told == dict(zip(values.tolist(), counts.tolist(), strict=True))


def test_stac_item_is_valid_and_leads_to_files_as_it_says(scene):
    content = json.loads((scene / "stac.json").read_text())
    JsonSchemaSTACValidator().validate_core(content, pystac.STACObjectType.ITEM, "1.1.0")
    item = pystac.Item.from_file(scene / "stac.json")
    assert item.datetime.isoformat() == "2022-02-05T00:00:20+00:00"
    for asset in item.assets.values():
        assert Path(asset.get_absolute_href()).exists()
    told = {path.name for path in scene.iterdir()} - {"stac.json", "mask.tif.aux.xml"}
    assert set(item.assets) == told
    for name in ("mask.tif", "probabilities.tif"):
        own = ProjectionExtension.ext(item.assets[name])
        with rasterio.open(scene / name) as dataset:
            assert tuple(own.shape) == dataset.shape
            assert tuple(own.transform) == tuple(dataset.transform)[:6]
            assert dataset.crs.to_epsg() == int(item.properties["proj:code"].split(":")[1])
    assert item.assets["mask.zarr"].extra_fields["proj:shape"] == [96, 124]


def test_stac_item_fits_the_schemas_of_its_extensions(scene):
    try:
        pystac.Item.from_file(scene / "stac.json").validate()
    except GetSchemaError as error:
        pytest.skip(f"without a network they can't be had: {error}".split(": HTTPS")[0])


@pytest.mark.parametrize("result", ["scene", "slide"])
def test_zarrs_are_ome_zarr_05_with_colours_and_names(result, request):
    folder = request.getfixturevalue(result)
    group = zarr.open_group(folder / "mask.zarr", mode="r")
    label = ImageLabel.from_zarr(group).ome_attributes.image_label
    assert {tuple(c.rgba[:3]) for c in label.colors if c.label_value < 255} == set(COLORS.values())
    assert {c.label_value for c in label.colors if c.rgba[3] == 0} == {0, 255}
    names = {each.label_value: each.model_dump()["name"] for each in label.properties}
    assert names == {0: "class 0", 1: "class 1", 2: "class 2", 255: "no data"}
    nodes = list(Reader(parse_url(str(folder / "mask.zarr"), mode="r"))())
    with tifffile.TiffFile(folder / "mask.tif") as tiff:
        exported = tiff.pages[0].asarray()
    levels = [np.asarray(level) for level in nodes[0].data]
    if result == "slide":
        np.testing.assert_array_equal(levels[0], exported)
    else:
        Image.from_zarr(zarr.open_group(folder / "probabilities.zarr", mode="r"))
        ImageLabel.from_zarr(zarr.open_group(folder / "labels.zarr", mode="r"))
        assert levels[0].shape == (96, 124)


def test_ome_tiff_of_a_slide_has_size_and_classes(slide):
    with tifffile.TiffFile(slide / "mask.tif") as tiff:
        root = ET.fromstring(tiff.ome_metadata)
        assert tiff.is_ome
        assert tiff.series[0].shape == SHAPE
        assert tiff.pages[0].software == f"tilseg {tilseg.__version__}"
    space = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"
    pixels = root.find(f"{space}Image/{space}Pixels")
    assert float(pixels.get("PhysicalSizeX")) == pytest.approx(0.5)
    assert float(pixels.get("PhysicalSizeY")) == pytest.approx(0.25)
    notes = {
        note.get("Namespace"): {m.get("K"): m.text for m in note.iter(f"{space}M")}
        for note in root.iter(f"{space}MapAnnotation")
    }
    assert notes["tilseg/names"] == {"0": "class 0", "1": "class 1", "2": "class 2"}
    assert notes["tilseg/provenance"]["model"] == "tiny"


def test_geopandas_and_the_mask_agree_on_areas(scene):
    with rasterio.open(scene / "probabilities.tif") as dataset:
        pixel = abs(dataset.transform.determinant)
        crs = dataset.crs
    mask = zarr.open_group(scene / "mask.zarr", mode="r")["0"][:]
    for name in ("regions.gpkg", "regions.fgb", "regions.parquet"):
        read = geopandas.read_parquet if name.endswith("parquet") else geopandas.read_file
        frame = read(scene / name)
        assert pyproj.CRS(frame.crs) == pyproj.CRS(crs.to_wkt())
        areas = frame.area.groupby(frame["class"]).sum()
        for value in (1, 2):
            assert areas[value] == pytest.approx((mask == value).sum() * pixel)


@pytest.mark.parametrize("name", ["alone.tif", "alone.zarr"])
def test_a_single_file_has_what_gdal_puts_there_and_its_receipt(scene, model, tmp_path, name):
    source = tilseg.open_source(scene.parent / "scene.tif")
    plan = tilseg.make_plan(source, tilseg.load_model(model), resolution="25m")
    assert tilseg.run(plan, tmp_path / name).computed
    beside = {f"{name}.json", name} | ({f"{name}.aux.xml"} if name.endswith("tif") else set())
    found = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert found == beside
    assert tilseg.verify(tmp_path / name) == []
    assert not tilseg.run(plan, tmp_path / name).computed
    if name.endswith("tif"):
        assert (tmp_path / name).read_bytes() == (scene / "mask.tif").read_bytes()
        aux = tmp_path / f"{name}.aux.xml"
        assert aux.read_bytes() == (scene / "mask.tif.aux.xml").read_bytes()
        aux.unlink()
        assert [each.what for each in tilseg.verify(tmp_path / name)] == ["is missing"]
