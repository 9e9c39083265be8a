"""The OME-TIFF export, read back with tifffile, tiffslide and GDAL."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
import tiffslide
from contracts.sink_contract import (
    CLASSES,
    PROVENANCE,
    SHAPES,
    SLIDE,
    SinkContract,
    finished,
    random_mask,
)

from tilseg.georef import Georef, PixelSize
from tilseg.sink import load_sink
from tilseg.sinks import ometiff

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


def write(folder: Path, labels, georef: Georef = SLIDE) -> Path:
    path = folder / "mask.tif"
    load_sink("ometiff").write(finished(folder / "mask.zarr", labels, georef=georef), path)
    return path


class TestOmeTiff(SinkContract):
    name = "ometiff"

    def read(self, path, level):
        return tifffile.imread(path, level=level)


@pytest.mark.parametrize(("rows", "cols", "_block"), SHAPES)
def test_levels_are_every_second_pixel(tmp_path, rows, cols, _block):
    labels = random_mask(rows, cols)
    with tifffile.TiffFile(write(tmp_path, labels)) as tiff:
        assert tiff.is_ome
        assert len(tiff.series) == 1
        levels = tiff.series[0].levels
        for k, level in enumerate(levels):
            assert level.axes == "YX"
            assert level.keyframe.tile == (512, 512)
            np.testing.assert_array_equal(level.asarray(), labels[:: 2**k, :: 2**k])
        assert max(levels[-1].shape) <= 512


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_gdal_reads_the_same(tmp_path):
    labels = random_mask(1201, 797)
    with rasterio.open(write(tmp_path, labels)) as dataset:
        np.testing.assert_array_equal(dataset.read(1), labels)


def test_tiffslide_reads_levels_and_pixel_size(tmp_path):
    labels = random_mask(2111, 1693)
    with tiffslide.TiffSlide(write(tmp_path, labels)) as slide:
        assert slide.level_dimensions == ((1693, 2111), (847, 1056), (424, 528), (212, 264))
        assert slide.properties["tiffslide.mpp-x"] == pytest.approx(0.2431)
        assert slide.properties["tiffslide.mpp-y"] == pytest.approx(0.2527)
        region = slide.read_region((200, 400), 1, (300, 250), as_array=True)
    np.testing.assert_array_equal(region[..., 0], labels[::2, ::2][200:450, 100:400])


def test_xml_says_size_names_and_colours(tmp_path):
    with tifffile.TiffFile(write(tmp_path, random_mask(300, 200))) as tiff:
        description, page = tiff.ome_metadata, tiff.pages[0]
        centimetre = [page.tags[tag].value for tag in ("XResolution", "YResolution")]
        assert page.tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
        assert page.software == "tilseg 0"
    assert description.isascii()
    root = ET.fromstring(description)
    pixels = root.find(f"{OME}Image/{OME}Pixels")
    assert {name: pixels.get(name) for name in ("Type", "SizeX", "SizeY")} == {
        "Type": "uint8",
        "SizeX": "200",
        "SizeY": "300",
    }
    assert float(pixels.get("PhysicalSizeX")) == 0.2431
    assert float(pixels.get("PhysicalSizeY")) == 0.2527
    assert pixels.get("PhysicalSizeXUnit") == "µm"
    assert [n / d for n, d in centimetre] == pytest.approx([1e4 / 0.2431, 1e4 / 0.2527])
    maps = {
        note.get("Namespace"): {m.get("K"): m.text for m in note.iter(f"{OME}M")}
        for note in root.iter(f"{OME}MapAnnotation")
    }
    assert maps == {
        "tilseg/names": {str(value): c.name for value, c in enumerate(CLASSES)},
        "tilseg/colors": {str(value): c.color for value, c in enumerate(CLASSES)},
        "tilseg/provenance": PROVENANCE,
    }
    used = {ref.get("ID") for ref in root.iter(f"{OME}AnnotationRef")}
    assert used == {note.get("ID") for note in root.iter(f"{OME}MapAnnotation")}


@pytest.mark.parametrize("georef", [Georef(), Georef(pixel_size=PixelSize(2.0, 3.0, "m"))])
def test_no_physical_size_is_claimed_without_micrometres(tmp_path, georef):
    with tifffile.TiffFile(write(tmp_path, random_mask(30, 20), georef)) as tiff:
        pixels = ET.fromstring(tiff.ome_metadata).find(f"{OME}Image/{OME}Pixels")
        assert pixels.get("PhysicalSizeX") is None
        assert tiff.pages[0].tags["ResolutionUnit"].value == tifffile.RESUNIT.NONE


def test_64_bit_offsets_where_the_pixels_need_them(tmp_path, monkeypatch):
    labels = random_mask(700, 600)
    small = write(tmp_path, labels)
    assert small.read_bytes()[:4] == b"II*\0"
    # The pixels of both levels are counted: 600 x 700 and 300 x 350.
    monkeypatch.setattr(ometiff, "_BIG", 600 * 700 + 300 * 350)
    big = write(tmp_path, labels)
    assert big.read_bytes()[:4] == b"II+\0"
    np.testing.assert_array_equal(tifffile.imread(big), labels)


def test_progress_comes_with_every_strip_and_may_end_it(tmp_path):
    """Level 0 of a large mask takes minutes, in which somebody may want to stop."""
    mask = finished(tmp_path / "mask.zarr", random_mask(1100, 600))
    path, steps = tmp_path / "out" / "mask.tif", []
    path.parent.mkdir()
    load_sink("ometiff").write(mask, path, lambda *step: steps.append(step))
    # Of 1100, 550 and 275 rows, 512 at a time.
    assert steps == [(done, 6) for done in range(7)]
    path.unlink()

    def stop(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_sink("ometiff").write(mask, path, stop)
    assert list(path.parent.iterdir()) == []


def test_tiles_are_on_the_disk_before_others_are_read(tmp_path, monkeypatch):
    """However many CPUs compress them: otherwise memory follows the mask."""
    monkeypatch.setattr(ometiff, "usable_cpus", lambda: 3)
    monkeypatch.setattr(ometiff, "_BUFFER", 4 * 512 * 512)
    labels = np.random.default_rng(0).integers(0, 4, (2111, 1693), np.uint8)
    mask, path = finished(tmp_path / "mask.zarr", labels), tmp_path / "mask.tif"
    sizes: list[int] = []

    def note(done: int, _total: int) -> None:
        if done < 5:
            sizes.append((tmp_path / ".mask.tif.staging" / path.name).stat().st_size)

    load_sink("ometiff").write(mask, path, note)
    # Level 0 has five strips of four tiles, and about three quarters of the bytes.
    steps = np.diff(sizes) / path.stat().st_size
    assert steps.min() > 0.1
