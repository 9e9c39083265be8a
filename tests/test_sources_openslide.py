"""Slides through OpenSlide: against the pixels they were made of, and the TIFF reader's."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from contracts.source_contract import SourceContract
from numpy.typing import NDArray
from slides import write_dicom, write_scn
from tiny import save_tiny_model, tilseg

from tilseg.choice import Choice
from tilseg.errors import InputError, UsageError
from tilseg.georef import PixelSize
from tilseg.source import Source, open_source
from tilseg.sources.openslide import OpenSlideSource, companions
from tilseg.window import Size, Window

pytest.importorskip("openslide", reason="the wsi extra is not installed")

PIXELS = np.random.default_rng(0).integers(256, size=(1311, 757, 3), dtype=np.uint8)
SERIES = "1.2.3.9"


def write_series(folder: Path, levels: list[NDArray[np.uint8]]) -> Path:
    for number, level in enumerate(levels, 1):
        options: Any = {"series": SERIES, "number": number, "tile": 128, "mpp": 0.25 * number}
        write_dicom(folder / f"level{number}.dcm", level, **options)
    return folder / "level1.dcm"


def by_cells(image: Path, window: Window, corner: tuple[int, int]) -> NDArray[np.uint8]:
    """Level 1 from the corners of cells of 512 pixels, which is what the reader promises."""
    import openslide

    with openslide.OpenSlide(image) as slide:
        factor = slide.level_downsamples[1]
        whole = np.zeros((*window.size, 3), np.uint8)
        for row in range(0, window.rows, 512):
            place = (corner[1], corner[0] + round(row * factor))
            side = (window.cols, min(512, window.rows - row))
            whole[row : row + 512] = np.asarray(slide.read_region(place, 1, side))[..., :3]
    return whole


class TestDicom(SourceContract):
    """A file a level."""

    levels = (PIXELS[:1308, :756], PIXELS[:1308:2, :756:2])

    def write(self, folder: Path) -> Path:
        return write_series(folder, list(self.levels))

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        return self.levels[level]

    def test_says_what_its_vendor_says(self, source: Source) -> None:
        assert source.georef.pixel_size == PixelSize(0.25, 0.25, "um")
        assert source.band_names == ("red", "green", "blue")
        assert [(one.row_factor, one.col_factor) for one in source.levels] == [(1, 1), (2, 2)]
        assert source.reader.startswith("OpenSlide 4")
        assert source.notes == ()
        assert source.segment_bytes == 128 * 128 * 4

    def test_any_of_its_files_is_the_slide(self, image: Path, source: Source) -> None:
        other = open_source(image.with_name("level2.dcm"))
        assert other.levels == source.levels
        window = Window(3, 5, 300, 200)
        np.testing.assert_array_equal(other.read(window), source.read(window))

    def test_its_other_files_belong_to_it(self, image: Path, source: Source) -> None:
        write_dicom(
            image.with_name("other.dcm"), PIXELS[:50, :70], series="1.2.3.8", number=1, tile=64, mpp=1
        )  # fmt: skip
        image.with_name("notes.txt").write_text("1.2.3.9")
        source = open_source(image)
        assert source.files == (image, image.with_name("level2.dcm"))
        before = source.identity()
        self.change(image.with_name("level2.dcm"))
        assert source.identity() != before


class TestLevelBetweenPixels(TestDicom):
    """757 / 378 is no integer: OpenSlide interpolates. Every window must agree all the same."""

    levels = (PIXELS, PIXELS[:1310:2, :756:2])

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        if level == 0:
            return self.levels[0]
        whole = by_cells(image, Window(0, 0, *self.levels[1].shape[:2]), corner=(0, 0))
        np.testing.assert_array_equal(whole[:512], self.levels[1][:512])
        return whole

    def test_says_what_its_vendor_says(self, source: Source) -> None:
        assert source.levels[1].size == Size(655, 378)
        assert source.levels[1].row_factor == 1311 / 655
        assert source.levels[1].col_factor == 757 / 378


class TestBounds(SourceContract):
    """Two areas were scanned: the smallest window round both is the image, as in QuPath."""

    areas = ((41, 61, PIXELS[:400, :302]), (500, 201, PIXELS[400:598, :500]))

    def write(self, folder: Path) -> Path:
        write_scn(folder / "a.scn", list(self.areas), 1000, 900)
        return folder / "a.scn"

    def slide(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        pixels, scanned = np.zeros((1000, 900, 3), np.uint8), np.zeros((1000, 900), np.bool_)
        for row, col, area in self.areas:
            rows, cols = area.shape[:2]
            pixels[row : row + rows, col : col + cols] = area
            scanned[row : row + rows, col : col + cols] = True
        return pixels, scanned

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        if level == 0:
            return self.slide()[0][41:698, 61:701]
        # The corner is no pixel of this level: only OpenSlide knows.
        return by_cells(image, Window(0, 0, 328, 320), corner=(41, 61))

    def test_is_cropped_to_them_and_says_so(self, source: Source) -> None:
        assert source.shape == (657, 640)
        assert source.notes == ("cropped to its bounds, from row 41 and column 61",)
        assert source.identity()["bounds"] == [41, 61, 657, 640]
        assert source.georef.pixel_size == PixelSize(0.5, 0.5, "um")

    def test_what_was_not_scanned_is_no_valid_pixel(self, source: Source) -> None:
        mask = source.mask(Window.whole(source.shape))
        np.testing.assert_array_equal(mask, self.slide()[1][41:698, 61:701])

    def test_a_run_counts_from_their_corner(self, image: Path, tmp_path: Path) -> None:
        save_tiny_model(tmp_path / "m.safetensors")
        tilseg("run", image, "--model", "m.safetensors", "-o", "mask.tif", cwd=tmp_path, check=True)
        scanned = self.slide()[1][41:698, 61:701]
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "mask.tif") != 255, scanned)


def same_slide(path: Path, tolerance: int) -> None:
    """Whether OpenSlide's reading of a TIFF is that of our TIFF reader."""
    theirs, ours = OpenSlideSource(path, Choice()), open_source(path)
    assert ours.reader.startswith("tifffile")
    assert theirs.levels == ours.levels
    assert theirs.georef == ours.georef
    for number, level in enumerate(ours.levels):
        window = Window.whole(level.size)
        mask = theirs.mask(window, number)
        assert mask is not None
        assert mask.all()
        pixels = theirs.read(window, number).astype(int)
        assert np.abs(pixels - ours.read(window, number)).max() <= tolerance


def test_a_pyramid_equals_that_of_the_tiff_reader(tmp_path: Path) -> None:
    text = "Aperio Image Library v11\r\n756x1308 [0,0 756x1308] (64x64) JPEG/RGB|MPP = 0.4990"
    tiled: Any = {"tile": (64, 64), "compression": "zlib", "metadata": None}
    with tifffile.TiffWriter(tmp_path / "a.svs") as file:
        file.write(PIXELS[:1308, :756], description=text, **tiled)
        file.write(PIXELS[:60, :50], description="Aperio thumbnail", metadata=None)
        file.write(PIXELS[:1308:4, :756:4], description="Aperio level", **tiled)
    same_slide(tmp_path / "a.svs", tolerance=0)


def test_a_real_slide_equals_that_of_the_tiff_reader(real_data: Path) -> None:
    # Two JPEG decoders may round each other's way.
    same_slide(real_data / "wsi" / "CMU-1-Small-Region.svs", tolerance=2)


def test_a_slide_cut_off_is_refused_at_the_latest_at_its_block(tmp_path: Path) -> None:
    path = write_series(tmp_path, [PIXELS])
    path.write_bytes(path.read_bytes()[:-128_000])
    source = open_source(path)
    with pytest.raises(InputError, match=r"level1.dcm: rows 1200:1300, cols 650:750 can't be read"):
        source.read(Window(1200, 650, 100, 100))
    # The next read has a fresh handle: only what is missing is lost.
    np.testing.assert_array_equal(source.read(Window(5, 7, 100, 90)), PIXELS[5:105, 7:97])


def test_damage_in_the_header_is_one_line(tmp_path: Path) -> None:
    path = write_series(tmp_path, [PIXELS])
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(InputError, match="OpenSlide can't open it") as caught:
        open_source(path)
    assert "\n" not in str(caught.value)


def test_a_giant_of_nothing_is_refused_from_its_header(tmp_path: Path) -> None:
    path = write_series(tmp_path, [PIXELS[:150, :140]])
    data = bytearray(path.read_bytes())
    for number in (6, 7):
        place = data.index(struct.pack("<HH2sH", 0x48, number, b"UL", 4)) + 8
        data[place : place + 4] = struct.pack("<I", 2**30)
    path.write_bytes(data)
    with pytest.raises(InputError, match="gigapixels") as caught:
        open_source(path)
    assert caught.value.id == "E-INPUT-SPARSE"


def test_what_openslide_does_not_know_goes_to_the_next_reader(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.scn", PIXELS[:61, :83], metadata=None)
    assert open_source(tmp_path / "a.scn").reader.startswith("tifffile")
    (tmp_path / "a.mrxs").write_bytes(b"no slide")
    with pytest.raises(InputError, match="is text"):
        open_source(tmp_path / "a.mrxs")
    (tmp_path / "b.mrxs").mkdir()
    with pytest.raises(InputError, match="directory"):
        open_source(tmp_path / "b.mrxs")


def test_there_is_nothing_to_choose(tmp_path: Path) -> None:
    path = write_series(tmp_path, [PIXELS])
    with pytest.raises(UsageError, match="channel 1 does not fit"):
        open_source(path, channel=1)


def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_series(tmp_path, [PIXELS])
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(InputError, match=r"needs OpenSlide; .*tilseg\[wsi\]") as caught:
        open_source(path)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("vendor", "expected"),
    [
        ("mirax", ["a/Data0000.dat", "a/Slidedat.ini"]),
        ("hamamatsu", ["a_1.jpg", "a_map.jpg"]),
        ("aperio", []),
    ],
)
def test_all_files_of_a_slide(tmp_path: Path, vendor: str, expected: list[str]) -> None:
    (tmp_path / "a").mkdir()
    names = ("a/Data0000.dat", "a/Slidedat.ini", "a_1.jpg", "a_map.jpg", "b_1.jpg", "a.mrxs")
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    properties = {
        "openslide.vendor": vendor,
        "hamamatsu.ImageFile": "a_1.jpg",
        "hamamatsu.MapFile": "a_map.jpg",
        "hamamatsu.Comment": "b",
    }
    found = companions(tmp_path / "a.mrxs", properties)
    assert [str(one.relative_to(tmp_path)) for one in found] == expected
