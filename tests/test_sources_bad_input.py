"""Files that are no image, or a broken one: one line that says so, and never a foreign error."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tilseg.errors import InputError, TilsegError
from tilseg.magic import describe
from tilseg.source import open_source
from tilseg.sources.tiff_checks import MAX_SAMPLES, check_directory
from tilseg.sources.tiff_header import read_directories
from tilseg.window import Window

PIXELS = (np.indices((97, 61)).sum(axis=0) % 251).astype(np.uint8)


def tiff(path: Path, **options: Any) -> bytes:
    tifffile.imwrite(path, PIXELS, metadata=None, **options)
    return path.read_bytes()


def _text(path: Path) -> None:
    path.write_text("rows,cols\n12,13\n")


def _page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")


def _pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n")


def _vrt(path: Path) -> None:
    band = '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
    hosts = '<SourceFilename relativetoVRT="0">/etc/hosts</SourceFilename>'
    path.write_text(
        f'<VRTDataset rasterXSize="8" rasterYSize="8">{band}{hosts}</VRTRasterBand></VRTDataset>'
    )


def _wms(path: Path) -> None:
    path.write_text('<GDAL_WMS><Service name="WMS"></Service></GDAL_WMS>')


def _directory(path: Path) -> None:
    path.mkdir()


def _cut_data(path: Path) -> None:
    path.write_bytes(tiff(path, rowsperstrip=10)[:-500])


def _cut_header(path: Path) -> None:
    path.write_bytes(tiff(path)[:60])


def _cut_magic(path: Path) -> None:
    path.write_bytes(b"II*\0\x08")


def _loop(path: Path) -> None:
    data = bytearray(tiff(path))
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    struct.pack_into("<I", data, place + 2 + 12 * count, place)
    path.write_bytes(data)


def _set_tag(path: Path, tag: int, value: int) -> None:
    data = bytearray(tiff(path))
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry)[0] == tag:
            struct.pack_into("<HII", data, entry + 2, 4, 1, value)
    path.write_bytes(data)


BAD: list[tuple[str, Callable[[Path], object], str, str]] = [
    ("missing", lambda path: None, "E-INPUT-MISSING", "no such file"),
    ("link to nothing", lambda path: path.symlink_to("gone.tif"), "E-INPUT-MISSING", "no such"),
    ("link to itself", lambda path: path.symlink_to(path), "E-INPUT-MISSING", "no such file"),
    ("folder", _directory, "E-INPUT-DIRECTORY", "is a directory"),
    ("pipe", os.mkfifo, "E-INPUT-NOT-FILE", "not a regular file"),
    ("empty", lambda path: path.touch(), "E-INPUT-EMPTY", "0 bytes"),
    ("text", _text, "E-INPUT-FORMAT", "is text"),
    ("web page", _page, "E-INPUT-FORMAT", "is a web page"),
    ("git-lfs pointer", _pointer, "E-INPUT-FORMAT", "git lfs pull"),
    ("VRT", _vrt, "E-INPUT-VRT", "refers to other files"),
    ("WMS", _wms, "E-INPUT-FORMAT", "is XML"),
    ("PDF", lambda path: path.write_bytes(b"%PDF-1.7 ..."), "E-INPUT-FORMAT", "is a PDF"),
    ("noise", lambda path: path.write_bytes(bytes(range(200, 256))), "E-INPUT-FORMAT", "unknown"),
    ("cut in its data", _cut_data, "E-INPUT-TRUNCATED", r"strip 8 \(rows from 80"),
    ("cut in its header", _cut_header, "E-INPUT-TRUNCATED", "the file has 60"),
    ("cut in its magic", _cut_magic, "E-INPUT-READ", "ends inside its header"),
    ("directories in a loop", _loop, "E-INPUT-READ", "in a loop"),
    ("no width", lambda path: _set_tag(path, 256, 0), "E-INPUT-READ", "97 x 0 pixels"),
    ("wide beyond its data", lambda p: _set_tag(p, 256, 10**9), "E-INPUT-TRUNCATED", "strip 0"),
    ("bomb of bands", lambda path: _set_tag(path, 277, 65_535), "E-INPUT-READ", "65535 bands"),
    ("unknown compression", lambda p: _set_tag(p, 259, 12_345), "E-INPUT-READ", "12345"),
]


@pytest.mark.parametrize(("make", "id", "words"), [row[1:] for row in BAD], ids=[r[0] for r in BAD])
def test_bad_files_are_refused_in_one_line(
    tmp_path: Path, make: Callable[[Path], object], id: str, words: str
) -> None:
    path = tmp_path / "slide.tif"
    make(path)
    with pytest.raises(InputError, match=words) as caught:
        open_source(path)
    assert caught.value.id == id
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x0cjP  \r\n", "is a JPEG 2000"),
        (bytes(128) + b"DICM", "is DICOM"),
        (b"\n  <html>", "is a web page"),
        (b"\x00\x01\x02\x03", "unknown bytes 00 01 02 03"),
    ],
)
def test_what_a_file_seems_to_be(head: bytes, kind: str) -> None:
    assert kind in describe(head)


def test_the_header_reader_agrees_with_tifffile(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for options in (
        {},
        {"bigtiff": True, "byteorder": ">"},
        {"tile": (16, 32), "compression": "zlib", "byteorder": ">"},
        {"rowsperstrip": 7, "compression": "lzw", "bigtiff": True},
    ):
        with tifffile.TiffWriter(path, **_only(options, "bigtiff", "byteorder")) as file:
            rest = _only(options, "tile", "compression", "rowsperstrip")
            for pixels in (PIXELS, PIXELS[:50, :30]):
                file.write(pixels, metadata=None, description="made for a test", **rest)
        with tifffile.TiffFile(path) as file:
            directories = read_directories(path)
            assert len(directories) == len(file.pages) == 2
            for ours, theirs in zip(directories, file.pages, strict=True):
                check_directory(ours)
                assert (ours.rows, ours.cols) == theirs.shape
                assert ours.segments.count == len(theirs.dataoffsets)
                assert ours.text(270) == theirs.description
                number = 324 if theirs.is_tiled else 273
                np.testing.assert_array_equal(ours.numbers(number), theirs.dataoffsets)


def _only(options: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


def test_hundreds_of_bands_are_no_bomb(tmp_path: Path) -> None:
    pixels = np.zeros((3, 5, 700), np.uint16)
    assert pixels.shape[2] < MAX_SAMPLES
    options: Any = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
    assert open_source(tmp_path / "a.tif").bands == 700


@pytest.fixture(scope="module")
def good_files(tmp_path_factory: pytest.TempPathFactory, sample_data: Path) -> list[bytes]:
    """Small files of each kind, to be damaged."""
    path = tmp_path_factory.mktemp("good") / "a.tif"
    rgb = np.stack([PIXELS, PIXELS[::-1], PIXELS[:, ::-1]], axis=-1)
    files = [
        tiff(path, rowsperstrip=10),
        tiff(path, tile=(32, 32), compression="zlib", predictor=True),
        tiff(path, bigtiff=True, byteorder=">", compression="lzw", rowsperstrip=20),
    ]
    tifffile.imwrite(path, rgb, tile=(32, 32), compression="jpeg", ome=True)
    files.append(path.read_bytes())
    tifffile.imwrite(path, rgb, imagej=True, metadata={"axes": "YXS"})
    files.append(path.read_bytes())
    geo = [(33550, 12, 3, (10.0, 10.0, 0.0), True), (33922, 12, 6, (0, 0, 0, 5e5, 5e6, 0), True)]
    files.append(tiff(path, compression="zlib", rowsperstrip=10, extratags=geo))
    return files


# rasterio can't log a warning of GDAL that quotes bytes which are no text, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_damage_never_raises_a_foreign_error(
    tmp_path: Path, good_files: list[bytes], data: st.DataObject
) -> None:
    damaged = bytearray(data.draw(st.sampled_from(good_files), label="file"))
    # Headers lie at either end: damage them more often than pixels.
    near = st.integers(0, 600) | st.integers(-600, -1) | st.integers(0, len(damaged) - 1)
    for _ in range(data.draw(st.integers(1, 6), label="places")):
        place = data.draw(near) % len(damaged)
        damaged[place] = data.draw(st.sampled_from([0, 1, 2, 4, 8, 127, 128, 254, 255]))
    if data.draw(st.booleans(), label="cut"):
        del damaged[data.draw(st.integers(0, len(damaged) - 1)) :]
    path = tmp_path / "a.tif"
    path.write_bytes(damaged)
    message = ""
    try:
        source = open_source(path)
        size = source.shape
        window = Window(0, 0, min(size.rows, 200), min(size.cols, 200))
        pixels = source.read(window, bands=range(min(source.bands, 5)))
        assert pixels.shape[:2] == window.size
        source.mask(window)
        source.close()
    except TilsegError as error:
        message = str(error)
    assert "\n" not in message


def test_a_name_that_looks_like_a_choice_is_a_name(tmp_path: Path) -> None:
    tiff(tmp_path / "plain.tif")
    odd = tmp_path / "a.tif#z=1"
    shutil.copy(tmp_path / "plain.tif", odd)
    assert open_source(odd).shape == PIXELS.shape
    assert open_source(str(odd)).shape == PIXELS.shape
    for name in ("a.tif#q=1", "a.tif#z=x", "a.tif#palette=none"):
        with pytest.raises(InputError, match=name):
            open_source(tmp_path / name)
