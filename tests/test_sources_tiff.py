"""Microscope and plain TIFFs against tifffile, Pillow and numpy reading the whole image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from contracts.source_contract import SourceContract
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tilseg.errors import InputError, UsageError
from tilseg.georef import PixelSize
from tilseg.source import Source, open_source
from tilseg.sources import tiff_checks, tiff_layout, tiff_segments
from tilseg.window import Window


def texture(rows: int, cols: int, bands: int, dtype: Any = np.uint8) -> NDArray[Any]:
    """(rows, cols, bands), smooth enough for JPEG, every band another."""
    row, col, band = np.ogrid[:rows, :cols, :bands]
    wave = 90 + 60 * np.sin(row / 9 + band) + 40 * np.cos(col / 13 - band)
    return wave.astype(dtype)


class TiffContract(SourceContract):
    """Oracle: tifffile reads the level whole; axes are brought to rows, columns, bands."""

    series = 0

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        with tifffile.TiffFile(image) as file:
            len(file.pages)
            series = file.series[self.series]
            pixels, axes = series.levels[level].asarray(), series.axes
        for last in "SC":
            if last in axes:
                return np.moveaxis(pixels, axes.index(last), -1)
        return pixels[..., None]


class TestOmePyramid(TiffContract):
    def write(self, folder: Path) -> Path:
        full = texture(211, 157, 3)
        with tifffile.TiffWriter(folder / "a.ome.tif", ome=True) as file:
            options: Any = {"tile": (64, 48), "compression": "jpeg", "photometric": "rgb"}
            file.write(full, subifds=2, metadata={"axes": "YXS"}, **options)
            file.write(full[::2, ::2], subfiletype=1, **options)
            file.write(full[::4, ::4], subfiletype=1, **options)
        return folder / "a.ome.tif"

    def test_has_all_levels(self, source: Source) -> None:
        assert [tuple(one.size) for one in source.levels] == [(211, 157), (106, 79), (53, 40)]


class TestPlainPyramidInSubdirectories(TiffContract):
    """As tifffile writes one that is not asked for OME."""

    def write(self, folder: Path) -> Path:
        full = texture(211, 157, 3)
        with tifffile.TiffWriter(folder / "a.tif") as file:
            options: Any = {"tile": (64, 48), "compression": "zlib", "photometric": "rgb"}
            file.write(full, subifds=2, **options)
            file.write(full[::2, ::2], subfiletype=1, **options)
            file.write(full[::4, ::4], subfiletype=1, **options)
        return folder / "a.tif"

    def test_has_all_levels(self, source: Source) -> None:
        assert [tuple(one.size) for one in source.levels] == [(211, 157), (106, 79), (53, 40)]


class TestPyramidOfSeparateBands(TiffContract):
    def write(self, folder: Path) -> Path:
        full = np.moveaxis(texture(131, 211, 3, np.uint16), -1, 0)
        with tifffile.TiffWriter(folder / "a.tif", bigtiff=True, byteorder=">") as file:
            options: Any = {
                "tile": (32, 48),
                "compression": "zlib",
                "predictor": True,
                "photometric": "rgb",
                "planarconfig": "separate",
                "metadata": None,
            }
            file.write(full, **options)
            file.write(full[:, ::2, ::2], subfiletype=1, **options)
        return folder / "a.tif"


class TestRawStrips(TiffContract):
    """Uncompressed, interleaved, big-endian: rows are read where they lie."""

    def write(self, folder: Path) -> Path:
        pixels = texture(97, 131, 4, np.int16) - 100
        tifffile.imwrite(
            folder / "a.tif", pixels, byteorder=">", rowsperstrip=13, photometric="minisblack",
            planarconfig="contig", metadata=None,
        )  # fmt: skip
        return folder / "a.tif"


class TestWithoutPread(TestRawStrips):
    """Where the system can't read at a place without moving the file's pointer (Windows)."""

    @pytest.fixture(autouse=True)
    def _no_pread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr("os.pread", raising=False)


class TestRawStripsOfSeparateBands(TiffContract):
    def write(self, folder: Path) -> Path:
        pixels = np.moveaxis(texture(97, 131, 3, np.float32), -1, 0)
        tifffile.imwrite(
            folder / "a.tif", pixels, rowsperstrip=7, photometric="rgb", planarconfig="separate",
            metadata=None,
        )  # fmt: skip
        return folder / "a.tif"


class TestCompressedStrips(TiffContract):
    def write(self, folder: Path) -> Path:
        tifffile.imwrite(
            folder / "a.tif", texture(97, 131, 3), rowsperstrip=10, compression="lzw",
            predictor=True, metadata=None,
        )  # fmt: skip
        return folder / "a.tif"


class TestUncompressedTiles(TiffContract):
    def write(self, folder: Path) -> Path:
        tifffile.imwrite(folder / "a.tif", texture(97, 131, 1)[..., 0], tile=(32, 16))
        return folder / "a.tif"


class TestBits(TiffContract):
    """One bit a pixel comes as 0 and 1."""

    def write(self, folder: Path) -> Path:
        pixels = texture(61, 83, 1)[..., 0] > 100
        tifffile.imwrite(folder / "a.tif", pixels, rowsperstrip=5, compression="packbits")
        return folder / "a.tif"


class TestChannelsOnPages(TiffContract):
    """ImageJ: each channel is a page, all channels are bands."""

    def write(self, folder: Path) -> Path:
        pixels = np.moveaxis(texture(61, 83, 5, np.uint16), -1, 0)
        tifffile.imwrite(folder / "a.tif", pixels, imagej=True, metadata={"axes": "CYX"})
        return folder / "a.tif"


class TestStackBehindOneDirectory(TiffContract):
    def write(self, folder: Path) -> Path:
        pixels = np.moveaxis(texture(61, 83, 5, np.uint16), -1, 0)
        path = folder / "a.tif"
        tifffile.imwrite(path, pixels, imagej=True, metadata={"axes": "CYX"}, truncate=True)
        with tifffile.TiffFile(path) as file:
            assert len(file.pages) == 1
        return path


class TestPlaneOfStack(TiffContract):
    """A channel of a plane of a time: one band."""

    pixels = np.moveaxis(texture(31, 43, 24, np.uint16).reshape(31, 43, 2, 3, 4), (0, 1), (3, 4))

    def open(self, image: Any) -> Source:
        return open_source(image, t=1, channel=2, z=3)

    def write(self, folder: Path) -> Path:
        tifffile.imwrite(folder / "a.ome.tif", self.pixels, metadata={"axes": "TCZYX"})
        return folder / "a.ome.tif"

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        return self.pixels[1, 2, 3][..., None]

    def test_channels_stay_bands_unless_one_is_chosen(self, image: Path) -> None:
        source = open_source(image, t=0, z=1)
        pixels = source.read(Window.whole(source.shape))
        np.testing.assert_array_equal(pixels, np.moveaxis(self.pixels[0, :, 1], 0, -1))

    def test_nothing_is_taken_silently(self, image: Path) -> None:
        with pytest.raises(InputError, match=r"T 2 x C 3 x Z 4.*t from 0 to 1 and z from 0 to 3"):
            open_source(image)
        with pytest.raises(InputError, match="choose t from"):
            open_source(image, z=0)
        with pytest.raises(UsageError, match="z 4 is not there; choose z from 0 to 3"):
            open_source(image, t=0, z=4)
        with pytest.raises(UsageError, match="series 1 is not there"):
            open_source(image, t=0, z=0, series=1)

    def test_its_uri_tells_the_choice(self, source: Source) -> None:
        assert source.uri.endswith("a.ome.tif#channel=2&z=3&t=1")


class TestSlide(TiffContract):
    """Aperio: levels are levels; thumbnail, label and macro photograph are not."""

    text = "Aperio Image Library v11\n157x211 [0,0 157x211] (64x48) JPEG|AppMag = 20|MPP = 0.4990"

    def write(self, folder: Path) -> Path:
        full = texture(211, 157, 3)
        tiled: Any = {"tile": (64, 48), "compression": "jpeg", "metadata": None}
        with tifffile.TiffWriter(folder / "a.svs") as file:
            file.write(full, description=self.text, **tiled)
            file.write(255 - full[::5, ::5], description="Aperio thumbnail", metadata=None)
            file.write(full[::4, ::4], description="Aperio level", **tiled)
            label: Any = {"subfiletype": 1, "metadata": None}
            file.write(255 - full[:105, :78], description="Aperio label", **label)
            macro: Any = {"subfiletype": 9, "metadata": None}
            file.write(255 - full[:100, :90], description="Aperio macro", **macro)
        return folder / "a.svs"

    def test_levels_and_pixel_size(self, source: Source) -> None:
        assert [tuple(one.size) for one in source.levels] == [(211, 157), (53, 40)]
        assert source.georef.pixel_size == PixelSize(0.499, 0.499, "um")


@pytest.mark.parametrize("orientation", range(1, 9))
class TestOrientation(TiffContract):
    @pytest.fixture
    def image(self, tmp_path: Path, orientation: int) -> Path:
        path = tmp_path / "a.tif"
        options: Any = {"extratags": [(274, 3, 1, orientation, True)], "metadata": None}
        tifffile.imwrite(path, texture(61, 83, 3), tile=(16, 32), **options)
        return path

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        with Image.open(image) as picture:
            return np.asarray(ImageOps.exif_transpose(picture))


def test_a_turned_pixel_is_turned_too(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", texture(5, 7, 1)[..., 0], extratags=[(274, 3, 1, 6, True)],
        metadata=None, resolution=(20_000, 10_000), resolutionunit="CENTIMETER",
    )  # fmt: skip
    source = open_source(tmp_path / "a.tif")
    assert source.shape == (7, 5)
    assert source.georef.pixel_size == PixelSize(rows=0.5, cols=1.0, unit="um")
    assert source.notes == ("turned as its orientation tag (6) says",)


class TestAlpha(TiffContract):
    def write(self, folder: Path) -> Path:
        pixels = texture(61, 83, 4)
        pixels[..., 3] = np.where(pixels[..., 3] < 60, 0, pixels[..., 3])
        tifffile.imwrite(
            folder / "a.tif", pixels, extrasamples=["unassalpha"], tile=(32, 32), compression="zlib"
        )
        return folder / "a.tif"

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        return super().whole(image, level)[..., :3]

    def test_alpha_is_a_mask(self, image: Path, source: Source) -> None:
        alpha = tifffile.imread(image)[..., 3]
        mask = source.mask(Window.whole(source.shape))
        assert mask is not None
        np.testing.assert_array_equal(mask, alpha > 0)
        assert 0 < mask.mean() < 1


class TestTilesNotStored(TiffContract):
    pixels = texture(61, 83, 1)

    def write(self, folder: Path) -> Path:
        tiles = np.pad(self.pixels[..., 0], ((0, 3), (0, 13))).reshape(2, 32, 3, 32).swapaxes(1, 2)
        stored = [None if k in (1, 5) else tile for k, tile in enumerate(tiles.reshape(6, 32, 32))]
        tifffile.imwrite(
            folder / "a.tif", iter(stored), shape=(61, 83), dtype=np.uint8, tile=(32, 32),
            compression="zlib",
        )  # fmt: skip
        return folder / "a.tif"

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        kept = self.pixels.copy()
        kept[:32, 32:64] = kept[32:, 64:] = 0
        return kept

    def test_they_are_no_valid_pixels(self, source: Source) -> None:
        mask = source.mask(Window.whole(source.shape))
        assert mask is not None
        expected = np.ones((61, 83), np.bool_)
        expected[:32, 32:64] = expected[32:, 64:] = False
        np.testing.assert_array_equal(mask, expected)


class TestPaletteColours(TiffContract):
    def open(self, image: Any) -> Source:
        return open_source(image, palette="expand")

    def write(self, folder: Path) -> Path:
        picture = Image.fromarray(texture(61, 83, 3)).quantize(37)
        picture.save(folder / "a.tif")
        return folder / "a.tif"

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        with Image.open(image) as picture:
            return np.asarray(picture.convert("RGB"))

    def test_or_numbers_but_never_silently(self, image: Path) -> None:
        with pytest.raises(InputError, match="--palette expand"):
            open_source(image)
        source = open_source(image, palette="index")
        with Image.open(image) as picture:
            pixels = source.read(Window.whole(source.shape))[..., 0]
            np.testing.assert_array_equal(pixels, np.asarray(picture))


class TestJpeg2000OfYCbCr(TiffContract):
    """Aperio's compression 33003; the oracle is Pillow's JFIF conversion."""

    ycbcr = texture(64, 96, 3)

    def write(self, folder: Path) -> Path:
        tiles = [self.ycbcr[:, k : k + 32] for k in (0, 32, 64)]
        stored = [
            imagecodecs.jpeg2k_encode(
                np.ascontiguousarray(tile), level=0, mct=False, codecformat="j2k"
            )
            for tile in tiles
        ]
        tifffile.imwrite(
            folder / "a.svs", iter(stored), shape=(64, 96, 3), dtype=np.uint8, tile=(64, 32),
            compression=33003, photometric="ycbcr", subsampling=(1, 1), metadata=None,
            description="Aperio |MPP = 0.25",
        )  # fmt: skip
        return folder / "a.svs"

    def whole(self, image: Path, level: int) -> NDArray[Any]:
        picture = Image.fromarray(self.ycbcr, "YCbCr")
        ours = open_source(image).read(Window(0, 0, 64, 96))
        # Pillow rounds its coefficients: never more than a grey level away.
        theirs = np.asarray(picture.convert("RGB"))
        assert np.abs(ours.astype(int) - theirs).max() <= 1
        return ours


@pytest.mark.parametrize(
    ("given", "read"), [("int8", "int16"), ("float16", "float32"), (">u2", "uint16")]
)
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_dtypes_are_converted_without_loss(
    tmp_path: Path, given: str, read: str, compression: str | None
) -> None:
    pixels = (texture(61, 83, 1)[..., 0] - 90.0).astype(given)
    tifffile.imwrite(tmp_path / "a.tif", pixels, compression=compression)
    source = open_source(tmp_path / "a.tif")
    assert source.dtype == np.dtype(read)
    np.testing.assert_array_equal(source.read(Window(0, 0, 61, 83))[..., 0], pixels)


@pytest.mark.parametrize("dtype", ["uint32", "float64", "complex64"])
def test_other_dtypes_are_refused(tmp_path: Path, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 7), dtype))
    with pytest.raises(InputError, match=dtype) as caught:
        open_source(tmp_path / "a.tif")
    assert caught.value.id == "E-INPUT-DTYPE"


def ome(size: str) -> dict[str, Any]:
    name = {"ome": True}
    keys = ("PhysicalSizeX", "PhysicalSizeXUnit", "PhysicalSizeY", "PhysicalSizeYUnit")
    return name | {"metadata": {"axes": "YX"} | dict(zip(keys, size.split(), strict=False))}


def tags(x: float, y: float, unit: str) -> dict[str, Any]:
    return {"resolution": (x, y), "resolutionunit": unit, "metadata": None}


def imagej(x: float, y: float, unit: str) -> dict[str, Any]:
    return {"imagej": True, "resolution": (x, y), "metadata": {"unit": unit}}


@pytest.mark.parametrize(
    ("options", "rows", "cols"),
    [
        (ome("0.25 µm 0.5 µm"), 0.5, 0.25),
        (ome("250 nm 0.0005 mm"), 0.5, 0.25),
        (ome("0.25"), None, None),  # no size of a column
        (ome("2 pixel 2 pixel"), None, None),  # no length
        (ome(""), None, None),
        (tags(40_000, 20_000, "CENTIMETER"), 0.5, 0.25),
        (tags(50_800, 25_400, "INCH"), 1.0, 0.5),
        (tags(72, 72, "INCH"), None, None),  # how large to print, not how large it is
        (tags(300, 300, "INCH"), None, None),
        (tags(28.3, 28.3, "CENTIMETER"), None, None),
        (tags(40_000, 20_000, "NONE"), None, None),
        (imagej(4, 2, "micron"), 0.5, 0.25),
        (imagej(4, 2, "um"), 0.5, 0.25),
        (imagej(4, 2, "pixel"), None, None),
    ],
)
def test_pixel_size_is_what_the_file_states(
    tmp_path: Path, options: dict[str, Any], rows: float | None, cols: float | None
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", texture(5, 7, 1)[..., 0], **options)
    found = open_source(tmp_path / "a.tif").georef.pixel_size
    if rows is None or cols is None:
        assert found is None
    else:
        assert found == PixelSize(pytest.approx(rows), pytest.approx(cols), "um")


def test_channel_names_of_ome(tmp_path: Path) -> None:
    pixels = np.moveaxis(texture(5, 7, 3), -1, 0)
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "FITC", "Cy5"]}}
    options: Any = {"metadata": metadata, "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, **options)
    assert open_source(tmp_path / "a.ome.tif").band_names == ("DAPI", "FITC", "Cy5")
    assert open_source(tmp_path / "a.ome.tif", channel=1).band_names == ("FITC",)


def test_one_of_several_images_must_be_chosen(tmp_path: Path) -> None:
    images = [texture(31, 43, 3), texture(47, 29, 3), texture(15, 21, 3)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(images[0], metadata=None)
        file.write(images[1], metadata=None)
        file.write(images[2], metadata=None, subfiletype=1)
    with pytest.raises(InputError, match=r"holds 2 images \(0: .*; 1: .*series from 0 to 1"):
        open_source(tmp_path / "a.tif")
    for number in (0, 1):
        source = open_source(tmp_path / "a.tif", series=number)
        np.testing.assert_array_equal(source.read(Window.whole(source.shape)), images[number])


def test_pages_without_a_name_are_counted_by_z(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for k in range(3):
            file.write(texture(31, 43, 1)[..., 0] + k, metadata=None)
    with pytest.raises(InputError, match="z from 0 to 2"):
        open_source(tmp_path / "a.tif")
    pixels = open_source(tmp_path / "a.tif", z=2).read(Window(0, 0, 31, 43))
    np.testing.assert_array_equal(pixels, texture(31, 43, 1) + 2)


def test_choices_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", texture(5, 7, 1)[..., 0])
    for option in ("channel", "z", "t"):
        with pytest.raises(UsageError, match=f"leave {option} out"):
            open_source(tmp_path / "a.tif", **{option: 0})


def test_ycbcr_that_is_not_jpeg_goes_to_rasterio(tmp_path: Path) -> None:
    ycbcr = texture(61, 83, 3)
    tifffile.imwrite(
        tmp_path / "a.tif", ycbcr, photometric="ycbcr", subsampling=(1, 1), compression="lzw",
        metadata=None,
    )  # fmt: skip
    source = open_source(tmp_path / "a.tif")
    assert source.reader.startswith("rasterio")
    assert source.notes == ("read by rasterio, for it is stored as YCbCr without JPEG",)
    theirs = np.asarray(Image.fromarray(ycbcr, "YCbCr").convert("RGB")).astype(int)
    assert np.abs(source.read(Window(0, 0, 61, 83)) - theirs).max() <= 2


def test_what_tifffile_only_warns_of_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = texture(61, 83, 1)[..., 0]
    words = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels '
        'DimensionOrder="XYCZT" Type="uint8" SizeX="83" SizeY="61" SizeC="1" SizeZ="1" SizeT="1">'
        '<TiffData FirstZ="{z}" PlaneCount="1"/></Pixels></Image></OME>'
    )
    # That text is in an encoding of its own is no damage.
    software = (305, 2, 10, b"f\xfcr \xb5m  \0\0", True)
    for z in (0, 7):
        tifffile.imwrite(
            path, pixels, description=words.format(z=z), metadata=None, software=False,
            extratags=[software],
        )  # fmt: skip
        if not z:
            assert open_source(path).shape == pixels.shape
    with pytest.raises(InputError, match=r"damaged TIFF: .* invalid TiffData index"):
        open_source(path)


def test_windows_read_only_the_rows_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", texture(997, 1009, 3), rowsperstrip=997)
    source = open_source(tmp_path / "a.tif")
    read, original = [], tiff_segments._File.read

    def counted(self: Any, place: int, count: int) -> bytes:
        read.append(count)
        return original(self, place, count)

    monkeypatch.setattr(tiff_segments._File, "read", counted)
    source.read(Window(500, 400, 10, 100))
    assert sum(read) == 10 * 100 * 3
    source.read(Window(500, 0, 10, 1009))
    assert sum(read) == 10 * 100 * 3 + 10 * 1009 * 3


def test_one_huge_compressed_strip_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = texture(997, 1009, 1)[..., 0]
    for module in (tiff_checks, tiff_layout):
        monkeypatch.setattr(module, "MAX_SEGMENT", 2**19)
    tifffile.imwrite(tmp_path / "raw.tif", pixels, rowsperstrip=997)
    assert open_source(tmp_path / "raw.tif").shape == (997, 1009)
    tifffile.imwrite(tmp_path / "packed.tif", pixels, rowsperstrip=997, compression="zlib")
    with pytest.raises(InputError, match=r"strip decodes to 1 MiB.*small tiles") as caught:
        open_source(tmp_path / "packed.tif")
    assert caught.value.id == "E-INPUT-SEGMENT"


def test_the_cache_holds_no_more_than_its_bytes() -> None:
    cache = tiff_segments._Cache(1000)
    for k in range(7):
        cache.put((0, k), np.zeros(300, np.uint8))
    kept = [k for k in range(7) if cache.get((0, k)) is not None]
    assert kept == [4, 5, 6]
    cache.put((0, 9), np.zeros(5000, np.uint8))
    assert [k for k in range(10) if cache.get((0, k)) is not None] == [9]


def test_a_damaged_tile_is_an_error_and_the_others_are_read(tmp_path: Path) -> None:
    pixels = texture(128, 192, 3)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, tile=(64, 64), compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as file:
        place = file.pages.first.dataoffsets[4]
    data = bytearray(path.read_bytes())
    data[place + 8 : place + 24] = bytes(16)
    path.write_bytes(data)
    source = open_source(path)
    with pytest.raises(InputError, match=r"tile 4 \(rows 64:128, cols 64:128\)") as caught:
        source.read(Window(100, 100, 1, 1))
    assert caught.value.id == "E-INPUT-READ"
    np.testing.assert_array_equal(source.read(Window(0, 0, 64, 192)), pixels[:64])


def test_a_file_that_shrinks_while_open_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, texture(97, 131, 3), rowsperstrip=10, metadata=None)
    source = open_source(path)
    with path.open("r+b") as file:
        file.truncate(20_000)
    with pytest.raises(InputError) as caught:
        source.read(Window(90, 0, 1, 131))
    assert caught.value.id == "E-INPUT-TRUNCATED"


def test_the_slide(sample_data: Path) -> None:
    source = open_source(sample_data / "slide.tif")
    assert source.shape == (1873, 2741)
    assert source.georef.pixel_size == PixelSize(0.5, 0.5, "um")
    sizes = [tuple(level.size) for level in source.levels]
    assert sizes == [(1873, 2741), (937, 1371), (469, 686), (235, 343)]
    truth = open_source(sample_data / "slide_truth.tif")
    assert (truth.shape, truth.georef.pixel_size) == (source.shape, source.georef.pixel_size)
    window = Window(700, 1100, 499, 701)
    nuclei = truth.read(window)[..., 0]
    assert set(np.unique(nuclei)) == {0, 1}
    # What the truth calls a nucleus is bluer than the rest.
    pixels = source.read(window).astype(float)
    blueness = pixels[..., 2] - pixels[..., 0]
    assert blueness[nuclei == 1].mean() > blueness[nuclei == 0].mean() + 20


WHOLE = {
    "CMU-1-Small-Region.svs": (2967, 2220, 3),
    "Fluorescence_example.tif": (450, 450, 2),
    "HE_example.tif": (1484, 1380, 3),
    "img2d.tif": (512, 512, 1),
    "mask2d.tif": (512, 512, 1),
}


@pytest.mark.parametrize("name", WHOLE)
def test_real_images(real_data: Path, name: str) -> None:
    path = real_data / "wsi" / name
    source = open_source(path)
    assert (*source.shape, source.bands) == WHOLE[name]
    assert len(source.levels) == 1
    oracle = TiffContract().whole(path, 0)
    np.testing.assert_array_equal(source.read(Window.whole(source.shape)), oracle)


def test_real_images_that_leave_a_choice_or_are_something_else(real_data: Path) -> None:
    stack = real_data / "wsi" / "multi-channel-z-series.ome.tif"
    with pytest.raises(InputError, match=r"C 3 x Z 5 x Y 167 x X 439; choose z from 0 to 4"):
        open_source(stack)
    source = open_source(stack, z=3)
    oracle = tifffile.imread(stack)[:, 3]
    pixels = source.read(Window.whole(source.shape))
    np.testing.assert_array_equal(pixels, np.moveaxis(oracle, 0, -1))
    with pytest.raises(InputError, match="OpenSlide"):
        open_source(real_data / "wsi" / "small_dicom.dcm")


def test_what_one_pixel_costs_is_one_tile_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = texture(997, 1009, 3)
    geo: Any = [
        (33550, 12, 3, (10.0, 10.0, 0.0), True),
        (33922, 12, 6, (0, 0, 0, 5e5, 5e6, 0), True),
    ]
    for extratags in ([], geo):
        for options, expected in (
            ({"tile": (256, 512)}, 256 * 512 * 3),
            ({"rowsperstrip": 10, "compression": "zlib"}, 10 * 1009 * 3),
            ({"rowsperstrip": 997}, 0),
        ):
            tifffile.imwrite(path, pixels, photometric="rgb", extratags=extratags, **options)
            assert open_source(path).segment_bytes == expected
