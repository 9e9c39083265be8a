"""Truth on another grid: refused, or seen on the prediction's, against rasterio's warp."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import Resampling, reproject

from tilseg.errors import InputError
from tilseg.georef import Georef, PixelSize
from tilseg.truth.align import on_grid_of
from tilseg.truth.class_map import IGNORED
from tilseg.truth.raster import RasterMap, open_raster
from tilseg.window import Size, Window

UTM = CRS.from_epsg(32633).to_wkt()
LON_LAT = CRS.from_epsg(4326).to_wkt()


def placed(mask: np.ndarray, transform: Affine | None, crs: str | None = UTM) -> RasterMap:
    georef = Georef() if transform is None else Georef(crs, tuple(transform)[:6])
    return replace(open_raster(mask), georef=georef)


def classes(seed: int, shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, shape).astype(np.uint8)


def whole(of) -> np.ndarray:
    return of.read(Window.whole(of.shape))


HERE = Affine(2, 0, 500_000, 0, -2, 5_000_000)


def test_the_same_grid_is_taken_as_it_is():
    mask = classes(0, (13, 17))
    truth = placed(mask, HERE)
    assert on_grid_of(truth, placed(mask, HERE), align=False) is truth
    # Written in another way, rounded by a writer, or without a place.
    for other in (
        placed(mask, HERE, CRS.from_epsg(32633).to_wkt(version="WKT1_GDAL")),
        placed(mask, HERE * Affine.translation(1e-5, -1e-5)),
        placed(mask, None),
    ):
        assert on_grid_of(truth, other, align=False) is truth
        assert on_grid_of(truth, other, align=True) is truth


@pytest.mark.parametrize(
    ("transform", "shape", "crs"),
    [
        (HERE * Affine.translation(0.5, 0), (13, 17), UTM),
        (HERE, (13, 18), UTM),
        (HERE * Affine.scale(2), (13, 17), UTM),
        (HERE, (13, 17), LON_LAT),
        (HERE, (13, 17), None),
    ],
)
def test_another_grid_is_refused(transform, shape, crs):
    truth = placed(classes(0, shape), transform, crs)
    with pytest.raises(InputError, match="--align") as caught:
        on_grid_of(truth, placed(classes(0, (13, 17)), HERE), align=False)
    assert caught.value.id == "E-CLASSES-GRID"


@pytest.mark.parametrize(
    "there",
    [
        HERE * Affine.translation(-3, 5),
        HERE * Affine.translation(2.3, -1.4) * Affine.scale(0.37, 0.61),
        HERE * Affine.translation(-6.13, 4.77) * Affine.scale(3.3),
        HERE * Affine.rotation(31) * Affine.scale(0.9),
        HERE * Affine.translation(0, 30.2) * Affine.scale(1, -1),
    ],
)
def test_the_nearest_pixel_is_gdals(there):
    grid, mask = placed(classes(1, (29, 23)), HERE), classes(2, (37, 31))
    aligned = on_grid_of(placed(mask, there), grid, align=True)
    expected = np.full(grid.shape, 250, np.uint8)
    reproject(
        mask,
        expected,
        src_transform=there,
        dst_transform=HERE,
        src_crs=UTM,
        dst_crs=UTM,
        src_nodata=251,
        dst_nodata=250,
        resampling=Resampling.nearest,
    )
    found = whole(aligned)
    np.testing.assert_array_equal(np.where(found == IGNORED, 250, found), expected)
    assert (found != IGNORED).any()
    assert (aligned.shape, aligned.georef) == (grid.shape, grid.georef)
    assert "aligned" in aligned.notes[-1]
    # The same in windows as on the whole.
    for window in (Window(3, 0, 11, 23), Window(28, 22, 1, 1), Window(5, 7, 3, 2)):
        np.testing.assert_array_equal(aligned.read(window), found[window.slices])


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (HERE * Affine.translation(-3, 5), "from 5 rows below and 3 columns left of it"),
        (HERE * Affine.translation(1e-9, -0.4), "from 0.4 rows above and 0 columns right of it"),
        (HERE * Affine.scale(2), "from pixels of another size or direction"),
    ],
)
def test_how_grids_differ_is_said(there, says):
    aligned = on_grid_of(
        placed(classes(2, (13, 18)), there), placed(classes(1, (13, 17)), HERE), align=True
    )
    assert aligned.notes[-1] == f"array: aligned to the grid of array by the nearest pixel, {says}"


def test_another_crs_is_gdals_too():
    grid = placed(classes(1, (29, 23)), HERE)
    there = Affine(3e-5, 0, 14.9995, 0, -2e-5, 45.1537)
    mask = classes(2, (41, 47))
    found = whole(on_grid_of(placed(mask, there, LON_LAT), grid, align=True))
    expected = np.full(grid.shape, 250, np.uint8)
    reproject(
        mask,
        expected,
        src_transform=there,
        dst_transform=HERE,
        src_crs=LON_LAT,
        dst_crs=UTM,
        src_nodata=251,
        dst_nodata=250,
        resampling=Resampling.nearest,
        tolerance=0,
    )
    found = np.where(found == IGNORED, 250, found)
    np.testing.assert_array_equal(found, expected)
    assert (found < 250).sum() > 100


def test_pictures_of_one_scene_are_aligned_by_size():
    mask = classes(3, (14, 10))
    grid = placed(classes(1, (7, 5)), None)
    aligned = on_grid_of(placed(mask, None), grid, align=True)
    np.testing.assert_array_equal(whole(aligned), mask[1::2, 1::2])
    finer = on_grid_of(grid, placed(mask, None), align=True)
    np.testing.assert_array_equal(whole(finer), whole(grid).repeat(2, 0).repeat(2, 1))


def test_pixel_sizes_decide_before_sizes():
    def sized(mask, size):
        return replace(open_raster(mask), georef=Georef(None, None, PixelSize(size, size, "um")))

    mask = classes(3, (9, 15))
    # Twice as fine, and cropped: not the whole of the prediction.
    aligned = on_grid_of(sized(mask, 0.25), sized(classes(1, (9, 7)), 0.5), align=True)
    found = whole(aligned)
    np.testing.assert_array_equal(found[:4], mask[1::2, 1::2])
    assert (found[4:] == IGNORED).all()


@pytest.mark.parametrize(
    ("truth", "says"),
    [
        (placed(classes(0, (9, 40)), None), "one is on a map"),
        (placed(classes(0, (13, 17)), HERE, None), "the other has none"),
    ],
)
def test_places_that_cannot_be_compared_are_refused(truth, says):
    with pytest.raises(InputError, match=says) as caught:
        on_grid_of(truth, placed(classes(0, (13, 17)), HERE), align=True)
    assert caught.value.id == "E-CLASSES-ALIGN"


def test_other_proportions_are_refused():
    grid = placed(classes(0, (20, 20)), None)
    with pytest.raises(InputError, match="other proportions"):
        on_grid_of(placed(classes(0, (20, 30)), None), grid, align=True)


def test_a_truth_that_is_much_finer_is_read_in_parts(monkeypatch):
    mask = classes(5, (600, 400))
    grid = placed(classes(1, (6, 4)), None)
    expected = mask[50::100, 50::100]
    reads = []

    def look(window):
        reads.append(window.size.area)
        return whole_look(window)

    truth = placed(mask, None)
    whole_look = truth.look
    monkeypatch.setattr("tilseg.truth.align._MOST", 500)
    aligned = on_grid_of(replace(truth, look=look), grid, align=True)
    np.testing.assert_array_equal(whole(aligned), expected)
    assert max(reads) <= 500
    assert aligned.shape == Size(6, 4)


def test_a_place_that_the_other_crs_does_not_have_is_ignored():
    # The first rows lie beyond the pole.
    grid = placed(classes(1, (6, 5)), Affine(0.5, 0, 14, 0, -1, 92), LON_LAT)
    truth = placed(classes(2, (50, 50)), Affine(8000, 0, 3e5, 0, -8000, 1.01e7))
    found = whole(on_grid_of(truth, grid, align=True))
    assert (found[:2] == IGNORED).all()
    assert (found[2:] != IGNORED).any()
