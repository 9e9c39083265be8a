"""Polygons from blocks equal GDAL's on the whole raster, however the mask is cut."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import rasterio.windows
import shapely
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from polygons_oracle import gdal_rings, our_rings, traced
from properties.test_regions_exact import SPECIAL, cut_masks, tiny_masks
from regions_oracle import whole_labels

CONNECTIVITY = st.sampled_from([1, 2])
quiet = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def assert_like_gdal(labels, block, folder):
    """Every ring, every area; no geometry that is invalid, no gap and no overlap."""
    if not labels.max():
        return
    polygons, areas = traced(labels, block, folder)
    assert our_rings(polygons) == gdal_rings(labels)
    np.testing.assert_array_equal(areas, np.bincount(labels.ravel())[1:])
    np.testing.assert_array_equal(shapely.area(polygons), areas)
    assert shapely.is_valid(polygons).all()
    assert shapely.coverage_is_valid(polygons)
    for polygon in shapely.get_parts(polygons):
        assert polygon.exterior.is_ccw
        assert not any(ring.is_ccw for ring in polygon.interiors)


@quiet
@given(cut_masks(), CONNECTIVITY)
def test_noise(tmp_path, cut, connectivity):
    mask, block = cut
    assert_like_gdal(whole_labels(mask, connectivity=connectivity), block, tmp_path)


@quiet
@given(tiny_masks(), CONNECTIVITY)
def test_tiny_masks(tmp_path, cut, connectivity):
    mask, block = cut
    assert_like_gdal(whole_labels(mask, connectivity=connectivity), block, tmp_path)


@quiet
@given(cut_masks(), st.integers(0, 2**32 - 1))
def test_instances_that_touch(tmp_path, cut, seed):
    """Any numbers of objects: neighbours of one class, pieces that lie apart, none missing."""
    mask, block = cut
    numbers = np.random.default_rng(seed).integers(1, 9, mask.shape)
    labels = np.where(mask == 1, numbers, whole_labels(mask) + 9)
    labels = np.unique(np.where(mask == 0, 0, labels), return_inverse=True)[1].reshape(mask.shape)
    assert_like_gdal(labels + (mask != 0).all(), block, tmp_path)


@pytest.mark.parametrize("block", [(1, 50), (50, 1), (7, 5), (13, 17), (99, 99)])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_masks(name, block, tmp_path):
    assert_like_gdal(whole_labels(SPECIAL[name]), block, tmp_path)


@quiet
@given(cut_masks(), st.data())
def test_the_same_bytes_for_any_blocks(tmp_path, cut, data):
    mask, block = cut
    assume((mask % 255).any())
    labels = whole_labels(mask)
    one, _ = traced(labels, block, tmp_path)
    two, _ = traced(labels, data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40))), tmp_path)
    assert shapely.to_wkb(one).tolist() == shapely.to_wkb(two).tolist()


def test_land_cover(real_data, tmp_path):
    """Fifteen classes that leave nothing free: every side is common to two regions."""
    with rasterio.open(real_data / "geo_nlcd_zion" / "nlcd.tif") as file:
        mask = file.read(1, window=rasterio.windows.Window(300, 200, 340, 300))
    labels = whole_labels(mask, background=None)
    assert labels.max() > 500
    assert_like_gdal(labels, (97, 113), tmp_path)
