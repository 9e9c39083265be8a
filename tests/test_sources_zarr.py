"""Zarr images against the arrays they were written from, and against ome-zarr-py's writer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from contracts.source_contract import SourceContract
from numpy.typing import NDArray
from ome_zarr.format import FormatV04, FormatV05
from ome_zarr.writer import write_multiscale

from tilseg.errors import InputError, UsageError
from tilseg.georef import Georef, PixelSize
from tilseg.source import Source, open_source
from tilseg.sources import zarr as zarr_source
from tilseg.window import Window


def noise(shape: tuple[int, ...], dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(1).integers(1, 120, shape).astype(dtype)


class ZarrContract(SourceContract):
    def change(self, image: Path) -> None:
        chunk = max((p for p in image.rglob("*") if p.is_file() and ".z" not in p.name), key=str)
        data = bytearray(chunk.read_bytes())
        data[-1] ^= 1
        chunk.write_bytes(data)


class OmeContract(ZarrContract):
    """(channel, y, x) in three levels, written by ome-zarr-py."""

    format: Any
    levels = (noise((3, 61, 83), np.uint16), noise((3, 31, 42), np.uint16))

    def write(self, folder: Path) -> Path:
        root = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=self.format.zarr_format)
        scales = [[{"type": "scale", "scale": [1, 0.25 * 2**k, 0.5 * 2**k]}] for k in range(2)]
        write_multiscale(
            list(self.levels),
            root,
            fmt=self.format,
            axes="cyx",
            coordinate_transformations=scales,
            storage_options={"chunks": (1, 16, 32)},
        )
        # Versions of the writer differ in how they are told of units.
        attributes = json.loads(json.dumps(dict(root.attrs)))
        for axis in attributes.get("ome", attributes)["multiscales"][0]["axes"][1:]:
            axis["unit"] = "micrometer"
        root.attrs.update(attributes)
        return folder / "a.zarr"

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        return np.moveaxis(self.levels[level], 0, -1)

    def test_says_where_pixels_lie(self, source: Source) -> None:
        assert source.georef == Georef(pixel_size=PixelSize(0.25, 0.5, "um"))
        assert [(one.row_factor, one.col_factor) for one in source.levels] == [(1, 1), (2, 2)]


class TestOmeZarr04(OmeContract):
    format = FormatV04()


class TestOmeZarr05(OmeContract):
    format = FormatV05()

    def test_channel_names(self, image: Path) -> None:
        group = zarr.open_group(image, mode="r+")
        labels = [{"label": name} for name in ("DAPI", "FITC", "Cy5")]
        group.attrs["ome"] = {**group.attrs["ome"], "omero": {"channels": labels}}
        assert open_source(image).band_names == ("DAPI", "FITC", "Cy5")
        assert open_source(image, channel=2).band_names == ("Cy5",)

    def test_one_channel(self, image: Path) -> None:
        source = open_source(image, channel=1)
        pixels = source.read(Window(0, 0, 31, 42), level=1, bands=(0, 0))
        np.testing.assert_array_equal(pixels, np.stack([self.levels[1][1]] * 2, axis=-1))

    def test_one_of_its_arrays(self, image: Path) -> None:
        inner = zarr.open_group(image, mode="r").attrs["ome"]["multiscales"][0]["datasets"][1]
        source = open_source(image / inner["path"])
        assert (*source.shape, source.bands) == (31, 42, 3)


class TestStack(ZarrContract):
    """t, c, z, y, x: a plane must be chosen."""

    pixels = noise((2, 3, 4, 31, 43))

    def open(self, image: Any) -> Source:
        return open_source(image, t=1, z=2)

    def write(self, folder: Path) -> Path:
        root = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=3)
        write_multiscale([self.pixels], root, fmt=FormatV05(), axes="tczyx")
        return folder / "a.zarr"

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        return np.moveaxis(self.pixels[1, :, 2], 0, -1)

    def test_nothing_is_taken_silently(self, image: Path) -> None:
        with pytest.raises(InputError, match=r"t 2 x c 3 x z 4.*t from 0 to 1 and z from 0 to 3"):
            open_source(image)
        with pytest.raises(UsageError, match="choose z from 0 to 3"):
            open_source(image, t=0, z=-1)
        with pytest.raises(UsageError, match="leave palette out"):
            open_source(image, t=0, z=0, palette="expand")


class TestShardedArrayOfBandsLast(ZarrContract):
    pixels = noise((61, 83, 4), np.float32)

    def write(self, folder: Path) -> Path:
        array = zarr.create_array(
            folder / "a.zarr", shape=self.pixels.shape, dtype="float32", chunks=(16, 16, 4),
            shards=(32, 48, 4), dimension_names=("y", "x", "band"), zarr_format=3,
        )  # fmt: skip
        array[...] = self.pixels
        return folder / "a.zarr"

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        return self.pixels


class TestOldArrayWithoutNames(ZarrContract):
    pixels = noise((61, 83), np.int16)

    def write(self, folder: Path) -> Path:
        array = zarr.create_array(
            folder / "a.zarr", shape=self.pixels.shape, dtype=">i2", chunks=(16, 32), zarr_format=2
        )
        array[...] = self.pixels
        return folder / "a.zarr"

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        return self.pixels[..., None]


def plain(path: Path, shape: tuple[int, ...], names: Any = None, **attributes: Any) -> Path:
    zarr.create_array(
        path, shape=shape, dtype="uint8", chunks=shape, dimension_names=names, zarr_format=3,
        attributes=attributes,
    )  # fmt: skip
    return path


def test_names_of_xarray_and_its_fill_value(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    array = zarr.create_array(path, shape=(2, 5, 7), dtype="int16", zarr_format=2)
    array.attrs["_ARRAY_DIMENSIONS"] = ["band", "latitude", "longitude"]
    array.attrs["_FillValue"] = -99
    array[...] = noise((2, 5, 7))
    source = open_source(path)
    assert (*source.shape, source.bands, source.nodata) == (5, 7, 2, -99)
    pixels = source.read(Window(0, 0, 5, 7))
    np.testing.assert_array_equal(pixels, np.moveaxis(noise((2, 5, 7)), 0, -1))


def test_axes_without_meaning_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 x 50 x 70 whose axes have no names"):
        open_source(plain(tmp_path / "a.zarr", (3, 50, 70)))
    with pytest.raises(InputError, match="two must be y and x"):
        open_source(plain(tmp_path / "b.zarr", (50, 70), ("u", "v")))
    with pytest.raises(InputError, match="writing it to a file of its own"):
        open_source(plain(tmp_path / "c.zarr", (5, 50, 70), ("angle", "y", "x")))
    assert open_source(plain(tmp_path / "d.zarr", (50, 70, 3))).bands == 3


def test_numbered_images_must_be_chosen(tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    root.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    for k in range(2):
        group = root.create_group(str(k))
        write_multiscale([noise((20 + k, 31))], group, fmt=FormatV05(), axes="yx")
    root.create_group("OME")
    with pytest.raises(InputError, match="series from 0 to 1"):
        open_source(tmp_path / "a.zarr")
    source = open_source(tmp_path / "a.zarr", series=1)
    np.testing.assert_array_equal(source.read(Window(0, 0, 21, 31))[..., 0], noise((21, 31)))
    with pytest.raises(UsageError, match="series 2 is not there"):
        open_source(tmp_path / "a.zarr", series=2)


def test_a_group_that_is_no_image_lists_what_it_holds(tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    with pytest.raises(InputError, match=r"it holds \(nothing\)"):
        open_source(tmp_path / "a.zarr")
    root.create_array("red", shape=(3, 4), dtype="uint8")
    root.create_group("blue")
    with pytest.raises(InputError, match=r"it holds \(red, blue\)"):
        open_source(tmp_path / "a.zarr")


def test_place_and_nodata_that_tilseg_wrote(tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    write_multiscale([noise((20, 31))], root, fmt=FormatV05(), axes="yx")
    place = {"crs": "WKT", "transform": [2, 0, 5, 0, -2, 7], "pixel_size": None}
    root.attrs["tilseg"] = {"nodata": 255, "georef": place}
    source = open_source(tmp_path / "a.zarr")
    assert source.georef == Georef("WKT", (2, 0, 5, 0, -2, 7), None)
    assert source.nodata == 255


@pytest.mark.parametrize("content", ["{", "[]", '{"zarr_format": 9}', ""])
def test_damaged_metadata_is_an_error(tmp_path: Path, content: str) -> None:
    path = plain(tmp_path / "a.zarr", (50, 70))
    (path / "zarr.json").write_text(content)
    with pytest.raises(InputError, match="can't be opened as zarr") as caught:
        open_source(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"axes": [{"name": "y"}, {"name": "z"}]},
        {"axes": 5},
        {"datasets": []},
        {"datasets": [{"path": "gone", "coordinateTransformations": []}]},
        {"datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": 1}]}]},
        {"coordinateTransformations": [{"type": "scale", "scale": [0, 0]}]},
    ],
)
def test_metadata_that_make_no_sense_are_an_error(tmp_path: Path, change: dict[str, Any]) -> None:
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    write_multiscale([noise((20, 31))], root, fmt=FormatV05(), axes="yx")
    ome = dict(root.attrs["ome"])
    ome["multiscales"] = [{**ome["multiscales"][0], **change}]
    root.attrs["ome"] = json.loads(json.dumps(ome))
    with pytest.raises(InputError, match="can't be opened as zarr"):
        open_source(tmp_path / "a.zarr")


def test_a_damaged_chunk_is_an_error_and_the_others_are_read(tmp_path: Path) -> None:
    path = TestOldArrayWithoutNames().write(tmp_path)
    chunk = path / "1.1"
    chunk.write_bytes(chunk.read_bytes()[:-5])
    source = open_source(path)
    with pytest.raises(InputError, match="rows 16:17, cols 32:33 can't be read"):
        source.read(Window(16, 32, 1, 1))
    kept = TestOldArrayWithoutNames.pixels[:16]
    np.testing.assert_array_equal(source.read(Window(0, 0, 16, 83))[..., 0], kept)


def test_huge_chunks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = plain(tmp_path / "a.zarr", (1000, 2000))
    assert open_source(path).shape == (1000, 2000)
    monkeypatch.setattr(zarr_source, "MAX_SEGMENT", 2**20)
    with pytest.raises(InputError, match="chunk decodes to 2 MiB"):
        open_source(path)


def test_a_folder_that_is_no_zarr_is_a_folder(tmp_path: Path) -> None:
    path = plain(tmp_path / "a.zarr", (50, 70))
    (path / "zarr.json").unlink()
    with pytest.raises(InputError) as caught:
        open_source(path)
    assert caught.value.id == "E-INPUT-DIRECTORY"
    shutil.rmtree(path)
    with pytest.raises(InputError) as caught:
        open_source(path)
    assert caught.value.id == "E-INPUT-MISSING"
