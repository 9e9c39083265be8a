"""Scenes: several files as one image, against numpy and GDAL on the whole files."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
import tifffile
from contracts.source_contract import SourceContract
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio import Affine
from rasterio.enums import Resampling

from tilseg.errors import InputError, TilsegError, UsageError
from tilseg.nodata import valid_pixels
from tilseg.source import Source, image_name, open_source
from tilseg.window import Size, Window

UTM = "EPSG:32633"
GRID = Affine(10, 0, 5e5, 0, -10, 5e6)
SHAPE = Size(83, 61)


def pixels(seed: int, shape: tuple[int, ...] = SHAPE, dtype: Any = np.uint16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


def write(
    path: Path,
    bands: np.ndarray,
    transform: Affine = GRID,
    *,
    overviews: tuple[int, ...] = (),
    mask: np.ndarray | None = None,
    names: tuple[str, ...] = (),
    **profile: Any,
) -> Path:
    """A tiled GeoTIFF of (rows, cols) or (bands, rows, cols)."""
    bands = bands.reshape(-1, *bands.shape[-2:])
    count, height, width = bands.shape
    profile = {"crs": UTM, "tiled": True, "blockxsize": 16, "blockysize": 32, **profile}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", dtype=bands.dtype, count=count, height=height, width=width,
            transform=transform, **profile,
        ) as dataset,
    ):  # fmt: skip
        dataset.write(bands)
        if mask is not None:
            dataset.write_mask(mask)
        if overviews:
            dataset.build_overviews(list(overviews), Resampling.nearest)
        for k, name in enumerate(names, 1):
            dataset.set_band_description(k, name)
    return path


def whole(source: Source) -> np.ndarray:
    return source.read(Window.whole(source.shape))


class TestScene(SourceContract):
    """Two files of one band and one of two, with overviews and a mask."""

    def write(self, folder: Path) -> Any:
        options = {"overviews": (2, 4), "nodata": 7}
        write(folder / "s_B02.tif", pixels(0), **options)
        write(folder / "s_B03.tif", pixels(1), **options)
        gap = np.full(SHAPE, 255, np.uint8)
        gap[20:44, 5:33] = 0
        write(folder / "s_swir.tif", pixels(2, (2, *SHAPE)), mask=gap, **options)
        return f"{folder}/s_B0[23].tif,{folder}/s_swir.tif"

    def whole(self, image: str, level: int) -> np.ndarray:
        folder = Path(image.split(",")[1]).parent
        found = []
        for name in ("s_B02.tif", "s_B03.tif", "s_swir.tif"):
            options = {"overview_level": level - 1} if level else {}
            with rasterio.open(folder / name, **options) as dataset:
                found += list(dataset.read())
        return np.stack(found, axis=-1)

    def change(self, image: str) -> None:
        super().change(Path(image.split(",", maxsplit=1)[0].replace("[23]", "3")))


class TestAlignedScene(SourceContract):
    """A coarser file that begins elsewhere and ends early, seen on the grid of the other."""

    def write(self, folder: Path) -> Any:
        write(folder / "fine.tif", pixels(0))
        write(folder / "coarse.tif", pixels(1, (31, 37)), Affine(20, 0, 500050, 0, -20, 4999970))
        return f"{folder}/coarse.tif,{folder}/fine.tif"

    def open(self, image: str) -> Source:
        return open_source(image, align=True)

    def whole(self, image: str, level: int) -> np.ndarray:
        assert level == 0
        return np.stack([onto_grid(Path(name)) for name in image.split(",")], axis=-1)

    def change(self, image: str) -> None:
        super().change(Path(image.split(",", maxsplit=1)[0]))


def onto_grid(path: Path, transform: Affine = GRID, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """What GDAL's warper makes of a file on a grid; 0 where it has nothing."""
    found = np.zeros(shape, np.uint16)
    with rasterio.open(path) as dataset:
        rasterio.warp.reproject(
            dataset.read(1), found, src_transform=dataset.transform, src_crs=dataset.crs,
            dst_transform=transform, dst_crs=dataset.crs, resampling=Resampling.nearest,
            init_dest_nodata=True, src_nodata=None, dst_nodata=0,
        )  # fmt: skip
    return found


def test_the_order_is_that_of_the_list(tmp_path):
    paths = [write(tmp_path / f"x_{name}.tif", pixels(k)) for k, name in enumerate("abc")]
    for order in ((2, 0, 1), (1, 2), (0, 1, 2)):
        source = open_source([paths[k] for k in order])
        np.testing.assert_array_equal(whole(source), np.stack([pixels(k) for k in order], -1))
        assert source.band_names == tuple("abc"[k] for k in order)
        assert source.files == tuple(paths[k] for k in order)
    # The same files in another order are another image.
    one, other = open_source(paths), open_source(paths[::-1])
    assert one.identity() != other.identity()
    assert one.notes == ("put together from 3 files",)
    assert image_name(one.uri) == "x"
    assert open_source(one.uri).uri == one.uri


def test_bands_of_files_with_several_keep_their_names(tmp_path):
    write(tmp_path / "rgb.tif", pixels(0, (2, *SHAPE)), names=("red", ""))
    write(tmp_path / "nir.tif", pixels(1), names=("Band 1",))
    source = open_source(f"{tmp_path}/rgb.tif,{tmp_path}/nir.tif")
    assert source.band_names == ("red", "rgb 2", "nir")


def test_one_file_of_a_pattern_is_that_file(tmp_path):
    path = write(tmp_path / "only.tif", pixels(0))
    source = open_source(f"{tmp_path}/o*.tif")
    assert (source.uri, source.notes) == (str(path), ())
    with pytest.raises(UsageError, match="align 'nearest' does not fit"):
        open_source(path, align=True)


def test_other_formats_and_choices_go_together(tmp_path):
    tifffile.imwrite(tmp_path / "c0.tif", pixels(0), tile=(16, 16))
    tifffile.imwrite(
        tmp_path / "c1.tif", np.stack([pixels(1), pixels(2)]), photometric="minisblack"
    )
    names = f"{tmp_path}/c0.tif,{tmp_path}/c1.tif"
    with pytest.raises(InputError, match="choose z from 0 to 1"):
        open_source(names)
    write(tmp_path / "c2.tif", pixels(2))
    with pytest.raises(InputError, match=r"c2\.tif: is 61 x 83 px at .* is 61 x 83 px; add"):
        open_source(f"{tmp_path}/c0.tif,{tmp_path}/c2.tif")
    tifffile.imwrite(tmp_path / "c1.tif", pixels(1))
    source = open_source(names, pixel_size="0.5um")
    assert (source.georef.pixel_size.rows, source.georef.pixel_size.unit) == (0.5, "um")
    np.testing.assert_array_equal(whole(source), np.stack([pixels(0), pixels(1)], axis=-1))


NAN = float("nan")


@pytest.mark.parametrize("values", [(7, 7), (7, 9), (7, None), (None, None), (NAN, NAN), (NAN, 7)])
def test_nodata_is_where_every_file_says_so(tmp_path, values):
    dtype = np.float32 if NAN in values else np.uint16
    bands = [pixels(k, dtype=dtype) % 11 for k in range(2)]
    for band, value in zip(bands, values, strict=True):
        band[:30] = 3
        band[10:40, 7:29] = 3 if value is None else value
    bands[0][15:60, 33:50] = 3 if values[0] is None else values[0]
    for k, (band, value) in enumerate(zip(bands, values, strict=True)):
        write(tmp_path / f"{k}.tif", band, nodata=value)
    source = open_source(f"{tmp_path}/?.tif")
    stack = np.stack(bands, axis=-1)
    missing = np.ones(SHAPE, bool)
    for band, value in zip(bands, values, strict=True):
        missing &= False if value is None else (np.isnan(band) if value != value else band == value)
    # What is not a number is never data.
    missing |= np.isnan(stack).any(axis=2)
    window = Window.whole(SHAPE)
    found = valid_pixels(source.read(window), source.nodata, source.mask(window))
    np.testing.assert_array_equal(missing, np.zeros(SHAPE, bool) if found is None else ~found)
    assert missing.any() == (None not in values)


def test_masks_of_all_files_count(tmp_path):
    gaps = [np.full(SHAPE, 255, np.uint8) for _ in range(2)]
    gaps[0][3:40, 5:31] = 0
    gaps[1][30:70, 20:60] = 0
    for k, gap in enumerate(gaps):
        write(tmp_path / f"{k}.tif", pixels(k), mask=gap)
    mask = open_source(f"{tmp_path}/?.tif").mask(Window.whole(SHAPE))
    np.testing.assert_array_equal(mask, (gaps[0] > 0) & (gaps[1] > 0))


@settings(max_examples=30)
@given(
    scale=st.tuples(st.floats(1.01, 4.5), st.floats(1, 4.5)),
    flip=st.tuples(st.sampled_from([1, -1]), st.sampled_from([1, -1])),
    shift=st.tuples(st.floats(-40, 40), st.floats(-40, 40)),
    turn=st.floats(-180, 180),
    corner=st.tuples(st.integers(0, 60), st.integers(0, 40)),
)
def test_any_grid_not_turned_against_the_other_is_aligned(
    tmp_path_factory, scale, flip, shift, turn, corner
):
    folder = tmp_path_factory.mktemp("scene")
    fine = Affine.translation(4e5, 6e6) * Affine.rotation(turn) * Affine.scale(10, -12)
    other = fine * Affine.translation(*shift) * Affine.scale(scale[0] * flip[0], scale[1] * flip[1])
    write(folder / "fine.tif", pixels(0), fine)
    write(folder / "other.tif", pixels(1, (67, 53)), other)
    # numpy on the whole: of each pixel's centre, the pixel that it lies in.
    rows, cols = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    x, y = ~other * (fine * (cols, rows))
    inside = (x >= 0) & (y >= 0) & (x < 53) & (y < 67)
    sides = np.minimum(abs(x - np.rint(x)), abs(y - np.rint(y))) < 1e-4
    if not inside.any():
        with pytest.raises(InputError, match="they do not overlap"):
            open_source(f"{folder}/fine.tif,{folder}/other.tif", align=True)
        return
    expected = np.zeros(SHAPE, np.uint16)
    expected[inside] = pixels(1, (67, 53))[y[inside].astype(int), x[inside].astype(int)]
    with contextlib.closing(
        open_source([folder / "other.tif", folder / "fine.tif"], align=True)
    ) as source:
        assert source.georef.transform == tuple(fine)[:6]
        window = Window(*corner, SHAPE[0] - corner[0], SHAPE[1] - corner[1])
        found, mask = source.read(window), source.mask(window)
        np.testing.assert_array_equal(found[..., 1], pixels(0)[window.slices])
        sure = ~sides[window.slices]
        np.testing.assert_array_equal(found[..., 0][sure], expected[window.slices][sure])
        mask = np.ones(window.size, bool) if mask is None else mask
        np.testing.assert_array_equal(mask[sure], inside[window.slices][sure])


def _twice(folder: Path) -> str:
    (folder / "link.tif").symlink_to(folder / "a.tif")
    return f"{folder}/a.tif,{folder}/link.tif"


BAD = {
    "one missing": (lambda f: f"{f}/a.tif,{f}/none.tif", "E-INPUT-MISSING", "none.tif: no such"),
    "none fits": (lambda f: f"{f}/a.tif,{f}/z*.tif", "E-INPUT-MISSING", "z*.tif: no such"),
    "twice": (_twice, "E-SCENE-TWICE", "link.tif: is named twice"),
    "type": (lambda f: f"{f}/a.tif,{f}/byte.tif", "E-SCENE-DTYPE", "pixels are uint8, those of"),
    "size": (lambda f: f"{f}/a.tif,{f}/wide.tif", "E-SCENE-GRID", "is 62 x 83 px at (10, 0, 500000"),
    "place": (lambda f: f"{f}/a.tif,{f}/moved.tif", "E-SCENE-GRID", "--align"),
    "crs": (lambda f: f"{f}/a.tif,{f}/crs.tif", "E-SCENE-GRID", "in WGS 84 / UTM zone 32N"),
    "damaged": (lambda f: f"{f}/a.tif,{f}/short.tif", "E-INPUT-TRUNCATED", "short.tif: "),
    "text": (lambda f: f"{f}/a.tif,{f}/text.tif", "E-INPUT-FORMAT", "text.tif: "),
    "address": (lambda f: f"{f}/a.tif,http://h/b.tif", "E-INPUT-REMOTE", "http://h/b.tif: is an"),
    "folder": (str, "E-INPUT-DIRECTORY", "is a directory"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "a.tif", pixels(0))
    write(tmp_path / "byte.tif", pixels(0, dtype=np.uint8))
    write(tmp_path / "wide.tif", pixels(0, (83, 62)))
    write(tmp_path / "moved.tif", pixels(0), GRID * Affine.translation(0, 1))
    write(tmp_path / "crs.tif", pixels(0), crs="EPSG:32632")
    write(tmp_path / "turned.tif", pixels(0), GRID * Affine.rotation(3))
    write(tmp_path / "far.tif", pixels(0), GRID * Affine.translation(62, 0))
    tifffile.imwrite(tmp_path / "nowhere.tif", pixels(0, (40, 30)))
    short = write(tmp_path / "short.tif", pixels(0))
    short.write_bytes(short.read_bytes()[:-2000])
    (tmp_path / "text.tif").write_text("B02")
    return tmp_path


@pytest.mark.parametrize(("names", "id", "words"), BAD.values(), ids=list(BAD))
def test_what_is_no_scene_is_refused_in_one_line(folder, names, id, words):
    with pytest.raises(TilsegError) as caught:
        open_source(names(folder))
    assert caught.value.id == id
    assert words in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("crs", "they have different CRSs"),
        ("turned", "one is turned against the other"),
        ("far", "they do not overlap"),
        ("nowhere", "one of them does not say where it lies"),
    ],
)
def test_what_can_not_be_aligned_is_refused(folder, name, words):
    with pytest.raises(InputError, match=words) as caught:
        open_source(f"{folder}/a.tif,{folder}/{name}.tif", align=True)
    assert caught.value.id == "E-SCENE-ALIGN"


def test_real_grids_one_row_apart(real_data):
    old, new = sorted((real_data / "geo_naip_wetlands").glob("*.tif"))[:2]
    with pytest.raises(InputError, match=r"934 x 72[34] px .* 934 x 72[34] px") as caught:
        open_source([old, new])
    assert caught.value.id == "E-SCENE-GRID"
    source = open_source([old, new], align=True)
    with rasterio.open(old) as first, rasterio.open(new) as second:
        assert source.georef.transform == tuple(first.transform)[:6]
        np.testing.assert_array_equal(whole(source)[..., :4], np.moveaxis(first.read(), 0, -1))
        expected = np.zeros((4, *first.shape), np.uint8)
        rasterio.warp.reproject(
            second.read(), expected, src_transform=second.transform, src_crs=second.crs,
            dst_transform=first.transform, dst_crs=first.crs, resampling=Resampling.nearest,
            init_dest_nodata=True, src_nodata=None, dst_nodata=0,
        )  # fmt: skip
    np.testing.assert_array_equal(whole(source)[..., 4:], np.moveaxis(expected, 0, -1))
