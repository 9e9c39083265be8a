"""PNG and JPEG against Pillow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contracts.source_contract import SourceContract
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tilseg.errors import InputError, UsageError
from tilseg.source import Source, open_source
from tilseg.sources import picture
from tilseg.window import Window


def texture(rows: int, cols: int, bands: int) -> NDArray[np.uint8]:
    row, col, band = np.ogrid[:rows, :cols, :bands]
    wave = 90 + 60 * np.sin(row / 9 + band) + 40 * np.cos(col / 13 - band)
    return wave.astype(np.uint8)


class PictureContract(SourceContract):
    mode = "RGB"
    suffix = ".png"
    options: dict[str, Any] = {}  # noqa: RUF012

    def picture(self) -> Image.Image:
        return Image.fromarray(texture(61, 83, 3)).convert(self.mode)

    def write(self, folder: Path) -> Path:
        path = folder / f"a{self.suffix}"
        self.picture().save(path, **self.options)
        return path

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        with Image.open(image) as file:
            return np.atleast_3d(np.asarray(file))


class TestColours(PictureContract):
    pass


class TestGrey(PictureContract):
    mode = "L"


class TestBits(PictureContract):
    mode = "1"

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        return super().whole(image, level).astype(np.uint8)


class TestSixteenBits(PictureContract):
    def picture(self) -> Image.Image:
        return Image.fromarray(texture(61, 83, 1)[..., 0].astype(np.uint16) * 257)


class TestAlpha(PictureContract):
    mode = "RGBA"
    bands = 3

    def picture(self) -> Image.Image:
        pixels = texture(61, 83, 4)
        pixels[..., -1] = np.where(pixels[..., -1] < 60, 0, pixels[..., -1])
        return Image.fromarray(pixels).convert(self.mode)

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        return super().whole(image, level)[..., : self.bands]

    def test_alpha_is_a_mask(self, image: Path, source: Source) -> None:
        mask = source.mask(Window.whole(source.shape))
        assert mask is not None
        with Image.open(image) as file:
            np.testing.assert_array_equal(mask, np.asarray(file)[..., -1] > 0)
        assert 0 < mask.mean() < 1


class TestGreyAlpha(TestAlpha):
    mode = "LA"
    bands = 1


class TestTransparentColour(PictureContract):
    """One colour of a picture without alpha means nothing is there."""

    options = {"transparency": (10, 20, 30)}  # noqa: RUF012

    def picture(self) -> Image.Image:
        pixels = texture(61, 83, 3)
        pixels[7:20, 11:50] = 10, 20, 30
        return Image.fromarray(pixels)

    def test_it_is_a_mask(self, source: Source) -> None:
        mask = source.mask(Window.whole(source.shape))
        expected = np.ones((61, 83), np.bool_)
        expected[7:20, 11:50] = False
        assert mask is not None
        np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
class TestPaletteNumbers(PictureContract):
    def open(self, image: Any) -> Source:
        return open_source(image, palette="index")

    @pytest.fixture
    def image(self, tmp_path: Path, bits: int) -> Path:
        path = tmp_path / "a.png"
        Image.fromarray(texture(61, 83, 3)).quantize(2**bits).save(path, bits=bits)
        return path


class TestPaletteColours(PictureContract):
    def open(self, image: Any) -> Source:
        return open_source(image, palette="expand")

    def picture(self) -> Image.Image:
        return Image.fromarray(texture(61, 83, 3)).quantize(29)

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        with Image.open(image) as file:
            return np.asarray(file.convert("RGB"))

    def test_one_must_be_chosen(self, image: Path) -> None:
        with pytest.raises(InputError, match="--palette expand"):
            open_source(image)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
class TestJpeg(PictureContract):
    @pytest.fixture
    def image(self, tmp_path: Path, options: dict[str, Any]) -> Path:
        self.picture().save(tmp_path / "a.jpg", quality=90, **options)
        return tmp_path / "a.jpg"


class TestGreyJpeg(PictureContract):
    mode = "L"
    suffix = ".jpg"


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a{suffix}"
    file = Image.fromarray(texture(61, 83, 3))
    exif = file.getexif()
    exif[274] = orientation
    file.save(path, exif=exif)
    source = open_source(path)
    with Image.open(path) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    assert source.shape == expected.shape[:2]
    np.testing.assert_array_equal(source.read(Window.whole(source.shape)), expected)
    part = Window(5, 7, 31, 43)
    np.testing.assert_array_equal(source.read(part), expected[part.slices])


def test_pictures_too_large_to_hold_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(texture(700, 800, 3)).save(tmp_path / "a.png")
    assert open_source(tmp_path / "a.png").shape == (700, 800)
    monkeypatch.setattr(picture, "MAX_SEGMENT", 2**20)
    with pytest.raises(InputError, match="picture decodes to 2 MiB") as caught:
        open_source(tmp_path / "a.png")
    assert caught.value.id == "E-INPUT-SEGMENT"


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_cut_picture_is_an_error(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"a{suffix}"
    Image.fromarray(texture(61, 83, 3)).save(whole)
    data = whole.read_bytes()
    for length in (9, 30, 150, len(data) // 2, len(data) - 30):
        cut = tmp_path / f"{length}{suffix}"
        cut.write_bytes(data[:length])
        with pytest.raises(InputError):
            open_source(cut).read(Window(0, 0, 1, 1))


def test_a_damaged_png_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(texture(61, 83, 3)).save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(InputError, match="can't be decoded") as caught:
        open_source(path).read(Window(0, 0, 1, 1))
    assert caught.value.id == "E-INPUT-READ"


def test_a_jpeg_for_print_is_refused(tmp_path: Path) -> None:
    Image.fromarray(texture(61, 83, 4), "CMYK").save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="JPEG of 4 components"):
        open_source(tmp_path / "a.jpg")


def test_choices_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    Image.fromarray(texture(61, 83, 3)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="leave z out"):
        open_source(tmp_path / "a.png", z=0)
    with pytest.raises(UsageError, match="leave palette out"):
        open_source(tmp_path / "a.png", palette="expand")


def test_real_images(real_data: Path) -> None:
    files = sorted((real_data / "nuclei_dsb2018" / "images").iterdir())[:12]
    assert files
    for path in files:
        source = open_source(path)
        with Image.open(path) as file:
            theirs = np.atleast_3d(np.asarray(file))[..., : source.bands]
        np.testing.assert_array_equal(source.read(Window.whole(source.shape)), theirs)
