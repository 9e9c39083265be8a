"""VRTs: refused unless allowed, and then only what is plainly put together from TIFFs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from contracts.source_contract import SourceContract
from rasterio.transform import from_origin

from tilseg.errors import InputError, UsageError
from tilseg.source import Source, open_source
from tilseg.window import Window


def _part(path: Path, pixels: np.ndarray, row: int, **options: Any) -> None:
    transform = from_origin(5e5, 5e6 - 10 * row, 10, 10)
    profile = {"driver": "GTiff", "crs": "EPSG:32633", "transform": transform, **options}
    rows, cols, bands = pixels.shape
    with rasterio.open(
        path, "w", width=cols, height=rows, count=bands, dtype=pixels.dtype, **profile
    ) as file:
        file.write(np.moveaxis(pixels, -1, 0))


def _vrt(names: list[str], bands: int = 3, *, relative: int = 1, rows: int = 40) -> str:
    """Two TIFFs, one below the other."""
    sources = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><ColorInterp>Gray</ColorInterp>'
        + "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="{relative}">{name}</SourceFilename>'
            f"<SourceBand>{band}</SourceBand>"
            f'<SrcRect xOff="0" yOff="0" xSize="80" ySize="{rows}"/>'
            f'<DstRect xOff="0" yOff="{k * rows}" xSize="80" ySize="{rows}"/></SimpleSource>'
            for k, name in enumerate(names)
        )
        + "</VRTRasterBand>"
        for band in range(1, bands + 1)
    )
    grid = "<SRS>EPSG:32633</SRS><GeoTransform>500000, 10, 0, 5000000, 0, -10</GeoTransform>"
    size = f'rasterXSize="80" rasterYSize="{rows * len(names)}"'
    return f"<VRTDataset {size}>{grid}{sources}</VRTDataset>"


def _mosaic(folder: Path) -> Path:
    """a.vrt over upper.tif and parts/lower.tif."""
    pixels = np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)
    (folder / "parts").mkdir()
    _part(folder / "upper.tif", pixels[:40], 0)
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 32, "compress": "deflate"}
    _part(folder / "parts" / "lower.tif", pixels[40:], 40, **tiles)
    path = folder / "a.vrt"
    path.write_text(_vrt(["upper.tif", "parts/lower.tif"]))
    return path


@pytest.fixture
def mosaic(tmp_path: Path) -> Path:
    return _mosaic(tmp_path)


class TestVrt(SourceContract):
    def write(self, folder: Path) -> Path:
        return _mosaic(folder)

    def open(self, image: Path) -> Source:
        return open_source(image, allow_vrt=True)

    def change(self, image: Path) -> None:
        super().change(image.parent / "parts" / "lower.tif")

    def whole(self, image: Path, level: int) -> np.ndarray:
        assert level == 0
        with rasterio.open(image) as dataset:
            return np.moveaxis(dataset.read(), 0, -1)


def test_it_is_refused_unless_allowed(mosaic):
    with pytest.raises(
        InputError, match=r"refers to other files; allow that with --allow-vrt"
    ) as e:
        open_source(mosaic)
    assert e.value.id == "E-INPUT-VRT"
    # No name gives that leave, only who calls.
    with pytest.raises(InputError, match="--allow-vrt"):
        open_source(f"{mosaic}#vrt=follow")
    # The name does not matter, only what it is.
    mosaic.rename(mosaic.with_name("a.tif"))
    with pytest.raises(InputError, match="is a GDAL VRT"):
        open_source(mosaic.with_name("a.tif"))


def test_a_file_that_is_no_vrt_needs_no_permission_and_has_none(mosaic):
    plain = open_source(mosaic.with_name("upper.tif"), allow_vrt=True)
    assert "#" not in plain.uri
    allowed = open_source(mosaic, allow_vrt=True)
    assert allowed.uri == f"{mosaic}#vrt=follow"
    assert set(allowed.files) == {
        mosaic, mosaic.with_name("upper.tif"), mosaic.parent / "parts" / "lower.tif"
    }  # fmt: skip


def test_what_gdalbuildvrt_writes_is_read(mosaic):
    from rasterio.shutil import copy

    path = mosaic.with_name("b.vrt")
    copy(str(mosaic.with_name("upper.tif")), str(path), driver="VRT")
    found = open_source(path, allow_vrt=True)
    with rasterio.open(mosaic.with_name("upper.tif")) as dataset:
        np.testing.assert_array_equal(
            found.read(Window.whole(found.shape)), np.moveaxis(dataset.read(), 0, -1)
        )
        assert found.georef.transform == tuple(dataset.transform)[:6]


def _edit(pattern: str, into: str) -> Any:
    return lambda text: re.sub(pattern, into, text, count=1, flags=re.DOTALL)


HOSTILE: dict[str, tuple[Any, str]] = {
    "an address": (_edit("upper.tif", "/vsicurl/http://127.0.0.1:9/x.tif"), "no TIFF on this"),
    "a bucket": (_edit("upper.tif", "/vsis3/bucket/x.tif"), "no TIFF on this machine"),
    "an archive": (_edit("upper.tif", "/vsizip/x.zip/x.tif"), "no TIFF on this machine"),
    "a page of another": (_edit("upper.tif", "GTIFF_DIR:1:upper.tif"), "no TIFF on this machine"),
    "itself": (_edit("upper.tif", "a.vrt"), "no TIFF on this machine"),
    "a password file": (_edit("upper.tif", "/etc/passwd"), "no TIFF on this machine"),
    "nothing": (_edit("upper.tif", ""), "no TIFF on this machine"),
    "a folder": (_edit("upper.tif", "parts"), "no TIFF on this machine"),
    "raw bytes": (_edit("<VRTRasterBand ", '<VRTRasterBand subClass="VRTRawRasterBand" '), "Raw"),
    "code": (_edit("<ColorInterp>Gray</ColorInterp>", "<PixelFunctionType/>"), "PixelFunctionType"),
    "warping": (_edit("<VRTDataset ", '<VRTDataset subClass="VRTWarpedDataset" '), "Warped"),
    "options": (_edit("<SourceBand>", "<OpenOptions/><SourceBand>"), "OpenOptions"),
    "other letters": (_edit("SourceFilename(.*?)SourceFilename", r"sourcefilename\1sourcefilename"),
                      "sourcefilename"),
    "entities": (_edit("^", '<!DOCTYPE VRTDataset [<!ENTITY a "b">]>'), "entities"),
    "coordinates from afar": (_edit("EPSG:32633", "http://127.0.0.1:9/crs"), "an address for its"),
    "no end": (_edit("</VRTDataset>", ""), "is no XML"),
    "no files": (_edit("<SimpleSource>.*</SimpleSource>", ""), "names no file"),
    "a giant": (_edit('rasterXSize="80" rasterYSize="80"',
                      'rasterXSize="900000" rasterYSize="900000"'), "of which"),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "words"), HOSTILE.values(), ids=list(HOSTILE))
def test_what_is_more_than_tiffs_put_together_is_refused(mosaic, edit, words):
    text = mosaic.read_text()
    mosaic.write_text(edit(text))
    assert mosaic.read_text() != text
    with pytest.raises(InputError, match=words):
        open_source(mosaic, allow_vrt=True)


def test_a_part_is_checked_as_any_tiff(mosaic):
    part = mosaic.with_name("upper.tif")
    part.write_bytes(part.read_bytes()[:-400])
    with pytest.raises(InputError, match=r"upper\.tif: strip") as caught:
        open_source(mosaic, allow_vrt=True)
    assert caught.value.id == "E-INPUT-TRUNCATED"
    tifffile.imwrite(part, np.zeros((2, 40, 80, 3), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match="more than one image"):
        open_source(mosaic, allow_vrt=True)


def test_a_palette_is_chosen_as_in_any_image(mosaic):
    with rasterio.open(mosaic.with_name("upper.tif")) as dataset:
        index = dataset.read(1)
    part = mosaic.with_name("index.tif")
    _part(part, index[..., None], 0)
    colours = {k: (k, 255 - k, 7, 255) for k in range(256)}
    with rasterio.open(part, "r+") as dataset:
        dataset.write_colormap(1, colours)
    entries = "".join(f'<Entry c1="{r}" c2="{g}" c3="{b}"/>' for r, g, b, _ in colours.values())
    table = f"<ColorInterp>Palette</ColorInterp><ColorTable>{entries}</ColorTable>"
    text = _vrt(["index.tif"], bands=1).replace("<ColorInterp>Gray</ColorInterp>", table)
    mosaic.write_text(text)
    with pytest.raises(InputError, match="--palette expand"):
        open_source(mosaic, allow_vrt=True)
    window = Window.whole(open_source(mosaic, allow_vrt=True, palette="index").shape)
    found = open_source(mosaic, allow_vrt=True, palette="expand").read(window)
    np.testing.assert_array_equal(found, np.stack([index, 255 - index, 0 * index + 7], axis=-1))
    with pytest.raises(UsageError, match="does not fit"):
        open_source(mosaic.with_name("upper.tif"), palette="expand")
