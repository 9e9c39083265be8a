"""Class probabilities, committed block by block and exported, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import zarr
from contracts.sink_contract import CLASSES, SLIDE
from ome_zarr_models.v05 import Image
from rio_cogeo.cogeo import cog_validate

from tilseg.georef import Georef
from tilseg.sink import windows_of
from tilseg.sinks.geotiff import write_probabilities
from tilseg.sinks.probabilities import ProbabilityStore
from tilseg.window import Size, Window

SHAPE = (701, 523)
BLOCK = Size(192, 256)


@pytest.fixture
def pixels():
    return np.random.default_rng(3).integers(0, 256, (*SHAPE, len(CLASSES)), dtype=np.uint8)


def _finished(path, pixels, georef) -> ProbabilityStore:
    store = ProbabilityStore.create(path, Size(*SHAPE), BLOCK, len(CLASSES))
    for window in windows_of(store.shape, BLOCK):
        crc = store.commit(window, pixels[window.slices])
        assert store.block_crc(window) == crc
    store.finish(name="slide", classes=CLASSES, georef=georef)
    return ProbabilityStore.open(path)


def test_levels_and_channels(tmp_path, pixels):
    store = _finished(tmp_path / "p.zarr", pixels, SLIDE)
    np.testing.assert_array_equal(store.read(Window(100, 50, 333, 401)), pixels[100:433, 50:451])
    group = zarr.open_group(tmp_path / "p.zarr", mode="r")
    np.testing.assert_array_equal(group["0"][:], np.moveaxis(pixels, 2, 0))
    np.testing.assert_array_equal(group["1"][:], np.moveaxis(pixels, 2, 0)[:, ::2, ::2])
    image = Image.from_zarr(group)
    assert [axis.name for axis in image.ome_attributes.multiscales[0].axes] == ["c", "y", "x"]
    channels = image.ome_attributes.model_dump()["omero"]["channels"]
    assert [channel["label"] for channel in channels] == [c.name for c in CLASSES]


def test_cog_has_a_band_a_class_with_scale(tmp_path, pixels):
    georef = Georef(
        rasterio.crs.CRS.from_epsg(32633).to_wkt(), (9.5, 3.1, 4e5, 3.1, -9.5, 5e6), None
    )
    store = _finished(tmp_path / "p.zarr", pixels, georef)
    write_probabilities(store, tmp_path / "p.tif")
    with rasterio.open(tmp_path / "p.tif") as dataset:
        np.testing.assert_array_equal(np.moveaxis(dataset.read(), 0, 2), pixels)
        assert dataset.scales == (1 / 255,) * len(CLASSES)
        assert dataset.descriptions == tuple(c.name for c in CLASSES)
        assert dataset.nodata is None
        assert tuple(dataset.transform)[:6] == georef.transform
        assert dataset.crs.to_epsg() == 32633
        assert dataset.overviews(1) == [2]
    valid, errors, _ = cog_validate(tmp_path / "p.tif", quiet=True)
    assert valid, errors
