"""Georeferenced TIFFs against rasterio reading the whole image."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from affine import Affine
from contracts.source_contract import SourceContract
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp

from tilseg.errors import InputError, UsageError
from tilseg.georef import Factors, Georef, PixelSize
from tilseg.source import Source, open_source
from tilseg.sources.resampled import on_grid
from tilseg.window import Window

ROTATED = Affine(8.7, -5.0000000001, 399960.1, -5.1, -8.66, 5.4e6)


def texture(rows: int, cols: int, bands: int, dtype: Any = np.uint8) -> NDArray[Any]:
    """(bands, rows, cols), smooth enough for JPEG, every band another."""
    row, col, band = np.ogrid[:rows, :cols, :bands]
    wave = 90 + 60 * np.sin(row / 9 + band) + 40 * np.cos(col / 13 - band)
    return np.moveaxis(wave, -1, 0).astype(dtype)


def write(
    path: Path, pixels: NDArray[Any], overviews: tuple[int, ...] = (), **options: Any
) -> Path:
    mask = options.pop("mask", None)
    colours = options.pop("colormap", None)
    defaults = {"crs": "EPSG:32633", "transform": ROTATED}
    count, rows, cols = pixels.shape
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            width=cols,
            height=rows,
            count=count,
            dtype=pixels.dtype,
            **(defaults | options),
        ) as file,
    ):
        file.write(pixels)
        if mask is not None:
            file.write_mask(mask)
        if colours is not None:
            file.write_colormap(1, colours)
        if overviews:
            file.build_overviews(list(overviews))
    return path


def their_level(path: Path, level: int) -> Any:
    options = {"overview_level": level - 1} if level else {}
    return rasterio.open(path, driver="GTiff", **options)


class GeoTiffContract(SourceContract):
    bands: tuple[int, ...] | None = None

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        with their_level(image, level) as file:
            return np.moveaxis(file.read(self.bands), 0, -1)


class TestPyramid(GeoTiffContract):
    def write(self, folder: Path) -> Path:
        return write(
            folder / "a.tif",
            texture(211, 157, 4, np.uint16),
            overviews=(2, 4),
            tiled=True,
            blockxsize=64,
            blockysize=48,
            compress="deflate",
            predictor=2,
            interleave="pixel",
            nodata=0,
        )


class TestStripsOfSeparateBands(GeoTiffContract):
    def write(self, folder: Path) -> Path:
        return write(folder / "a.tif", texture(97, 131, 3, np.float32), interleave="band")


class TestJpegWithInternalMask(GeoTiffContract):
    def write(self, folder: Path) -> Path:
        mask = np.zeros((211, 157), np.bool_)
        mask[31:190, 11:93] = True
        return write(
            folder / "a.tif",
            texture(211, 157, 3),
            overviews=(2, 4),
            mask=mask,
            tiled=True,
            blockxsize=64,
            blockysize=64,
            compress="jpeg",
            photometric="ycbcr",
        )

    def test_the_mask_is_gdals(self, image: Path, source: Source) -> None:
        for number, level in enumerate(source.levels):
            found = source.mask(Window.whole(level.size), number)
            assert found is not None
            assert 0 < found.mean() < 1
            with their_level(image, number) as file:
                np.testing.assert_array_equal(found, file.read_masks(1) > 0)


class TestAlpha(GeoTiffContract):
    bands = (1, 2, 3)

    def write(self, folder: Path) -> Path:
        pixels = texture(83, 101, 4)
        pixels[3] = np.where(pixels[3] < 60, 0, pixels[3])
        return write(folder / "a.tif", pixels, photometric="rgb", alpha="yes")

    def test_alpha_is_a_mask_and_no_band(self, image: Path, source: Source) -> None:
        assert source.bands == 3
        found = source.mask(Window.whole(source.shape))
        assert found is not None
        with rasterio.open(image) as file:
            assert file.colorinterp[3] is ColorInterp.alpha
            np.testing.assert_array_equal(found, file.read(4) > 0)
        assert 0 < found.mean() < 1


class TestPaletteNumbers(GeoTiffContract):
    def open(self, image: Any) -> Source:
        return open_source(image, palette="index")

    def write(self, folder: Path) -> Path:
        pixels = texture(61, 43, 1) % 7
        colours = {k: (40 * k, 255 - 30 * k, k, 255) for k in range(7)}
        return write(folder / "a.tif", pixels, colormap=colours, nodata=5)


class TestPaletteColours(TestPaletteNumbers):
    def open(self, image: Any) -> Source:
        return open_source(image, palette="expand")

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        with rasterio.open(image) as file:
            table = np.array([file.colormap(1)[k][:3] for k in range(256)], np.uint8)
            return table[file.read(1)]

    def test_its_nodata_number_becomes_a_mask(self, image: Path, source: Source) -> None:
        assert source.nodata is None
        found = source.mask(Window.whole(source.shape))
        assert found is not None
        with rasterio.open(image) as file:
            np.testing.assert_array_equal(found, file.read(1) != 5)


def test_a_palette_must_be_chosen(tmp_path: Path) -> None:
    image = TestPaletteNumbers().write(tmp_path)
    with pytest.raises(InputError, match=r"--palette expand.*--palette index") as caught:
        open_source(image)
    assert caught.value.id == "E-INPUT-PALETTE"
    plain = write(tmp_path / "grey.tif", texture(7, 5, 1))
    with pytest.raises(UsageError, match="leave palette out"):
        open_source(plain, palette="expand")
    assert open_source(plain, palette="index").bands == 1


# the same geographic tags for files that rasterio does not write
def geo_tags(path: Path) -> list[tuple[int, int, int, Any, bool]]:
    write(path, texture(4, 5, 1))
    with tifffile.TiffFile(path) as file:
        found = file.pages.first.tags
        return [
            (tag.code, int(tag.dtype), tag.count, tag.value, True)
            for tag in (
                found[code] for code in (33550, 33922, 34264, 34735, 34736, 34737) if code in found
            )
        ]


class TestSecondImageOfAFile(GeoTiffContract):
    pixels = texture(61, 47, 1)[0]

    def open(self, image: Any) -> Source:
        return open_source(image, series=1)

    def write(self, folder: Path) -> Path:
        tags = geo_tags(folder / "tags.tif")
        with tifffile.TiffWriter(folder / "a.tif") as file:
            for pixels in (self.pixels[:50], self.pixels, self.pixels[:9]):
                file.write(pixels, metadata=None, extratags=tags, rowsperstrip=7)
        return folder / "a.tif"

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        return self.pixels[..., None]

    def test_an_image_must_be_chosen(self, image: Path) -> None:
        with pytest.raises(InputError, match=r"0: 50 x 47; 1: 61 x 47; 2: 9 x 47.*from 0 to 2"):
            open_source(image)
        with pytest.raises(UsageError, match="choose series from 0 to 2"):
            open_source(image, series=3)
        with pytest.raises(UsageError, match="leave z out"):
            open_source(image, series=1, z=0)

    def test_the_chosen_image_keeps_its_place(self, source: Source) -> None:
        assert source.georef.transform == tuple(ROTATED)[:6]
        assert source.uri.endswith("a.tif#series=1")


@pytest.mark.parametrize(
    ("crs", "unit"),
    [("EPSG:32633", "m"), ("EPSG:4326", "degree"), ("EPSG:2263", "US survey foot")],
)
def test_pixel_size_has_the_unit_of_the_crs(tmp_path: Path, crs: str, unit: str) -> None:
    grid = Affine.rotation(33) * Affine.scale(3, -4)
    source = open_source(write(tmp_path / "a.tif", texture(5, 7, 1), crs=crs, transform=grid))
    assert source.georef.pixel_size is not None
    assert source.georef.pixel_size.unit == unit
    assert source.georef.pixel_size.rows == pytest.approx(4)
    assert source.georef.pixel_size.cols == pytest.approx(3)


@pytest.mark.parametrize(
    "grid",
    [
        ROTATED,
        Affine(0.1, 0, 1 / 3, 0, 0.3, -90),  # south up
        Affine(10.000000000000002, 0, 0, 0, -9.999999999999998, 1e-300),
        Affine(0, 2.5, 100, 2.5, 0, 7),  # turned by 90 degrees
    ],
)
def test_the_grid_is_kept_to_the_last_bit(tmp_path: Path, grid: Affine) -> None:
    source = open_source(write(tmp_path / "a.tif", texture(5, 7, 1), transform=grid))
    with rasterio.open(tmp_path / "a.tif") as file:
        assert source.georef.transform == tuple(file.transform)[:6] == tuple(grid)[:6]
        assert source.georef.crs == file.crs.to_wkt()


def test_a_grid_without_crs_has_no_pixel_size(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "a.tif", texture(5, 7, 1), crs=None))
    assert source.georef == Georef(None, tuple(ROTATED)[:6], None)
    assert source.reader.startswith("rasterio")


def test_control_points_are_noted_and_not_applied(tmp_path: Path) -> None:
    points = [GroundControlPoint(r, c, 10.0 + c, 50.0 - r) for r, c in [(0, 0), (0, 6), (4, 0)]]
    path = write(tmp_path / "a.tif", texture(5, 7, 1), crs=None, transform=None)
    with rasterio.open(path, "r+") as file:
        file.gcps = (points, "EPSG:4326")
    source = open_source(path)
    assert source.georef == Georef()
    assert source.notes == ("its 3 ground control points are not applied: it has no grid",)


@pytest.mark.parametrize(
    ("dtype", "nodata", "kept"),
    [("uint8", 0, 0), ("int16", -9999, -9999), ("float32", math.nan, math.nan)],
)
def test_nodata_is_kept(tmp_path: Path, dtype: str, nodata: float, kept: float) -> None:
    pixels = texture(5, 7, 2).astype(dtype)
    source = open_source(write(tmp_path / "a.tif", pixels, nodata=nodata))
    assert source.nodata == pytest.approx(kept, nan_ok=True)
    assert source.mask(Window(0, 0, 5, 7)) is None


def test_nodata_that_no_pixel_can_have_is_none(tmp_path: Path) -> None:
    tag = (42113, 2, 6, "-9999", True)
    tags = [*geo_tags(tmp_path / "tags.tif"), tag]
    tifffile.imwrite(tmp_path / "a.tif", texture(5, 7, 1)[0], metadata=None, extratags=tags)
    assert open_source(tmp_path / "a.tif").nodata is None


def test_band_names_are_descriptions(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(5, 7, 3))
    with rasterio.open(path, "r+") as file:
        file.set_band_description(2, "near infrared")
    assert open_source(path).band_names == ("", "near infrared", "")


def test_neighbouring_files_are_not_looked_at(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", texture(64, 96, 1))
    write(tmp_path / "a.tif.ovr", 255 - texture(32, 48, 1))
    with (
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="FALSE"),
        rasterio.open(path, sharing=False) as file,
    ):
        assert file.overviews(1) == [2]
    assert len(open_source(path).levels) == 1


def test_a_damaged_tile_is_an_error_and_the_others_are_read(tmp_path: Path) -> None:
    pixels = texture(128, 192, 1)
    path = write(
        tmp_path / "a.tif", pixels, tiled=True, blockxsize=64, blockysize=64, compress="deflate"
    )
    with tifffile.TiffFile(path) as file:
        place = file.pages.first.dataoffsets[4]
    data = bytearray(path.read_bytes())
    data[place + 8 : place + 24] = bytes(16)
    path.write_bytes(data)
    source = open_source(path)
    for _ in range(2):
        with pytest.raises(InputError, match="rows 64:65, cols 64:65 can't be read") as caught:
            source.read(Window(64, 64, 1, 1))
        assert caught.value.id == "E-INPUT-READ"
        assert "See previous exception" not in str(caught.value)
    np.testing.assert_array_equal(source.read(Window(0, 0, 64, 192))[..., 0], pixels[0, :64])


def test_a_map_turned_by_an_orientation_tag_is_refused(tmp_path: Path) -> None:
    tags = [*geo_tags(tmp_path / "tags.tif"), (274, 3, 1, 6, True)]
    tifffile.imwrite(tmp_path / "a.tif", texture(5, 7, 1)[0], metadata=None, extratags=tags)
    with pytest.raises(InputError, match="orientation"):
        open_source(tmp_path / "a.tif")


def test_a_map_that_gdal_cannot_decode_keeps_its_place(tmp_path: Path) -> None:
    tags = [*geo_tags(tmp_path / "tags.tif"), (42113, 2, 3, "77", True)]
    pixels = texture(64, 48, 1)[0]
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        metadata=None,
        extratags=tags,
        compression="jpegxl",
        compressionargs={"lossless": True},
    )
    source = open_source(tmp_path / "a.tif")
    with rasterio.open(tmp_path / "tags.tif") as file:
        assert source.georef.crs == file.crs.to_wkt()
        assert source.georef.transform == tuple(file.transform)[:6]
    assert source.georef.pixel_size == open_source(tmp_path / "tags.tif").georef.pixel_size
    assert source.nodata == 77
    assert source.reader.startswith("tifffile")
    np.testing.assert_array_equal(source.read(Window(0, 0, 64, 48))[..., 0], pixels)


def test_the_scene(sample_data: Path) -> None:
    source = open_source(sample_data / "scene.tif")
    assert source.shape == (409, 557)
    assert source.band_names == ("blue", "green", "red", "near infrared")
    assert source.georef.pixel_size == PixelSize(pytest.approx(10), pytest.approx(10), "m")
    assert [tuple(level.size) for level in source.levels] == [(409, 557), (205, 279), (103, 140)]
    assert source.nodata == 0
    truth = open_source(sample_data / "scene_truth.tif")
    assert (truth.shape, truth.georef) == (source.shape, source.georef)
    labels = truth.read(Window.whole(truth.shape))[..., 0]
    pixels = source.read(Window.whole(source.shape))
    assert set(np.unique(labels)) == {0, 1, 2, 255}
    np.testing.assert_array_equal(labels == 255, (pixels == 0).any(axis=-1))


REFUSED = {"image_nan.tif": "float64", "nlcd.tif": "--palette expand", "s2_band.jp2": "JPEG 2000"}
FOLDERS = ("geo_rasterio", "geo_edge", "geo_naip_wetlands", "geo_s2_ftw", "geo_nlcd_zion")


@pytest.mark.parametrize("folder", FOLDERS)
def test_real_images(real_data: Path, folder: str) -> None:
    files = sorted((real_data / folder).iterdir())
    assert files
    for path in files:
        if path.name in REFUSED:
            with pytest.raises(InputError, match=REFUSED[path.name]):
                open_source(path)
            continue
        source = open_source(path)
        with rasterio.open(path, driver="GTiff") as file:
            rows, cols = (min(n, 700) for n in file.shape)
            theirs = file.read(window=((0, rows), (0, cols)))[: source.bands]
            ours = source.read(Window(0, 0, rows, cols))
            np.testing.assert_array_equal(ours, np.moveaxis(theirs, 0, -1))
            mask = source.mask(Window(0, 0, rows, cols))
            if mask is not None:
                valid = file.dataset_mask(window=((0, rows), (0, cols))) > 0
                np.testing.assert_array_equal(mask, valid)
            assert source.georef.transform == tuple(file.transform)[:6]
            assert len(source.levels) == 1 + len(file.overviews(1))


def test_a_scale_and_an_offset_are_told_and_not_applied(tmp_path: Path) -> None:
    pixels = texture(5, 7, 2)
    path = write(tmp_path / "a.tif", pixels)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales = [1e-4] * dataset.count
        dataset.offsets = [-0.1] * dataset.count
    source = open_source(path)
    assert "scale 0.0001 and offset -0.1 are not applied" in source.notes[0]
    assert len(source.notes) == 1
    found = source.read(Window.whole(source.shape))
    np.testing.assert_array_equal(found, np.moveaxis(pixels, 0, -1))


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("2022:02:05 00:00:20", "2022-02-05T00:00:20Z"),
        ("  2022:02:05 23:59:59 ", "2022-02-05T23:59:59Z"),
        ("2022:13:05 00:00:20", None),
        ("05.02.2022", None),
        (None, None),
    ],
)
def test_says_when_it_was_recorded(tmp_path, written, told):
    path = write(tmp_path / "one.tif", texture(40, 30, 1))
    if written is not None:
        with rasterio.open(path, "r+") as file:
            file.update_tags(TIFFTAG_DATETIME=written)
    source = open_source(path)
    assert source.recorded == told
    assert on_grid(source, Factors(2.5, 2.5)).recorded == told
