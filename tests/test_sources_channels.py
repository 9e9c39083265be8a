"""Channels by name, and what vendors say in their TIFFs; oracles are numpy and OpenSlide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from tiny import save_tiny_model, tilseg

from tilseg.errors import UsageError
from tilseg.georef import PixelSize
from tilseg.source import Source, open_source, reopen_source
from tilseg.window import Window

NAMES = ("DAPI", "Opal 520", "CD8 (é)")
PIXELS = np.random.default_rng(1).integers(999, size=(3, 131, 83), dtype=np.uint16)


def ome_tiff(path: Path) -> Path:
    metadata = {"axes": "CYX", "Channel": {"Name": list(NAMES)}}
    options: Any = {"metadata": metadata, "photometric": "minisblack"}
    tifffile.imwrite(path.with_suffix(".ome.tif"), PIXELS, **options)
    return path.with_suffix(".ome.tif")


def imagej(path: Path) -> Path:
    metadata = {"axes": "CYX", "Labels": list(NAMES)}
    tifffile.imwrite(path.with_suffix(".tif"), PIXELS, imagej=True, metadata=metadata)
    return path.with_suffix(".tif")


def qptiff(path: Path, pixels: NDArray[Any] = PIXELS) -> Path:
    text = '<?xml version="1.0" encoding="utf-16"?>\n<PerkinElmer-QPI-ImageDescription>{}</PerkinElmer-QPI-ImageDescription>'
    path = path.with_suffix(".qptiff")
    with tifffile.TiffWriter(path) as file:
        for step in (1, 2):
            for name, plane in zip(NAMES, pixels, strict=True):
                file.write(
                    plane[: 131 // step * step : step, : 83 // step * step : step],
                    description=text.format(f"<Name>{name}</Name>").encode(),
                    software="PerkinElmer-QPI", tile=(64, 64), photometric="minisblack",
                    resolution=(20_080, 20_000), resolutionunit="CENTIMETER", metadata=None,
                )  # fmt: skip
            if step == 1:
                thumbnail = np.zeros((31, 19, 3), np.uint8)
                file.write(thumbnail, software="PerkinElmer-QPI", metadata=None)
    return path


def ome_zarr(path: Path) -> Path:
    scale = [{"type": "scale", "scale": [1, 1, 1]}]
    multiscale = {
        "axes": [{"name": "c"}, {"name": "y"}, {"name": "x"}],
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    omero = {"channels": [{"label": name} for name in NAMES]}
    group = zarr.open_group(path.with_suffix(".zarr"), mode="w")
    group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale], "omero": omero}
    group.create_array("0", data=PIXELS, chunks=(1, 50, 50))
    return path.with_suffix(".zarr")


def all_pixels(source: Source) -> NDArray[Any]:
    return source.read(Window.whole(source.shape))


@pytest.mark.parametrize("write", [ome_tiff, imagej, qptiff, ome_zarr])
def test_a_channel_is_chosen_by_its_name(tmp_path: Path, write: Any) -> None:
    image = write(tmp_path / "a")
    assert open_source(image).band_names == NAMES
    for number, name in enumerate(NAMES):
        source = open_source(image, channel=name.swapcase())
        np.testing.assert_array_equal(all_pixels(source)[..., 0], PIXELS[number])
        assert source.band_names == (name,)
        # The same image however it was asked for: a run by name is continued by number.
        assert source.uri == open_source(image, channel=number).uri
        assert source.identity() == open_source(image, channel=number).identity()
        np.testing.assert_array_equal(all_pixels(reopen_source(source.uri)), all_pixels(source))


@pytest.mark.parametrize("write", [ome_tiff, imagej, qptiff, ome_zarr])
def test_an_unknown_name_lists_what_there_is(tmp_path: Path, write: Any) -> None:
    image = write(tmp_path / "a")
    with pytest.raises(UsageError, match="no channels are named 'Opal'") as caught:
        open_source(image, channel="Opal")
    assert str(caught.value).endswith("choose 0 (DAPI), 1 (Opal 520), 2 (CD8 (é))")


def test_a_name_that_two_channels_have_is_not_taken(tmp_path: Path) -> None:
    metadata = {"axes": "CYX", "Labels": ["DAPI", "CD8", "dapi"]}
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, imagej=True, metadata=metadata)
    with pytest.raises(UsageError, match=r"2 channels are named 'DAPI'; choose 0 \(DAPI\), 1"):
        open_source(tmp_path / "a.tif", channel="DAPI")


def test_a_file_without_names_says_so(tmp_path: Path) -> None:
    metadata = {"axes": "CYX"}
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, imagej=True, metadata=metadata)
    with pytest.raises(UsageError, match="choose a number: it names none"):
        open_source(tmp_path / "a.tif", channel="DAPI")


def test_the_only_channel_may_be_named(tmp_path: Path) -> None:
    options: Any = {"metadata": {"axes": "YX", "Channel": {"Name": "DAPI"}}}
    tifffile.imwrite(tmp_path / "a.ome.tif", PIXELS[0], **options)
    np.testing.assert_array_equal(
        all_pixels(open_source(tmp_path / "a.ome.tif", channel="dapi"))[..., 0], PIXELS[0]
    )


def test_a_scene_of_named_channels_is_reopened(tmp_path: Path) -> None:
    images = [ome_tiff(tmp_path / name) for name in "ab"]
    source = open_source(images, channel="CD8 (é)")
    expected = np.stack([PIXELS[2]] * 2, axis=-1)
    np.testing.assert_array_equal(all_pixels(source), expected)
    np.testing.assert_array_equal(all_pixels(reopen_source(source.uri)), expected)


def test_the_command_takes_names_too(tmp_path: Path) -> None:
    image = ome_tiff(tmp_path / "a")
    save_tiny_model(tmp_path / "m.safetensors", bands=1)
    masks = []
    for channel in ("opal 520", "1"):
        tilseg(
            *("run", image, "--model", "m.safetensors", "--channel", channel),
            *("-o", "mask.tif", "--overwrite"),
            cwd=tmp_path,
            check=True,
        )
        masks.append(tifffile.imread(tmp_path / "mask.tif"))
    np.testing.assert_array_equal(*masks)
    config = tmp_path / "job.toml"
    config.write_text('channel = "Cy5"\nmodel = "m.safetensors"\n')
    done = tilseg("run", image, "--config", config, "-o", "b.tif", cwd=tmp_path)
    assert done.returncode == 2
    assert "no channels are named 'Cy5'; choose 0 (DAPI)" in done.stderr


def test_pixel_size_and_levels_of_a_qptiff(tmp_path: Path) -> None:
    source = open_source(qptiff(tmp_path / "a"))
    size = PixelSize(pytest.approx(0.5), pytest.approx(1e4 / 20_080), "um")
    assert source.georef.pixel_size == size
    assert [tuple(one.size) for one in source.levels] == [(131, 83), (65, 41)]
    np.testing.assert_array_equal(
        source.read(Window(0, 0, 65, 41), level=1), np.moveaxis(PIXELS[:, :130:2, :82:2], 0, -1)
    )


def test_pixel_size_of_a_philips_slide(tmp_path: Path) -> None:
    openslide = pytest.importorskip("openslide", reason="the wsi extra is not installed")
    level = (
        '<DataObject ObjectType="PixelDataRepresentation">'
        '<Attribute Name="DICOM_PIXEL_SPACING" PMSVR="IDoubleArray">"{}" "{}"</Attribute>'
        '<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_NUMBER" PMSVR="IUInt16">{}</Attribute>'
        "</DataObject>"
    )
    levels = level.format(0.00025, 0.0005, 0) + level.format(0.0005, 0.001, 1)
    text = (
        '<?xml version="1.0" encoding="UTF-8" ?>\n<DataObject ObjectType="DPUfsImport">'
        '<Attribute Name="PIM_DP_SCANNED_IMAGES" PMSVR="IDataObjectArray"><Array>'
        '<DataObject ObjectType="DPScannedImage">'
        '<Attribute Name="PIM_DP_IMAGE_TYPE" PMSVR="IString">WSI</Attribute>'
        '<Attribute Name="DICOM_PIXEL_SPACING" PMSVR="IDoubleArray">"0.00025" "0.0005"</Attribute>'
        '<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" PMSVR="IDataObjectArray">'
        f"<Array>{levels}</Array></Attribute></DataObject></Array></Attribute></DataObject>"
    )
    full = np.random.default_rng(2).integers(256, size=(256, 384, 3), dtype=np.uint8)
    path = tmp_path / "a.tiff"
    with tifffile.TiffWriter(path) as file:
        options: Any = {"software": "Philips DP v1.0", "tile": (64, 64), "metadata": None}
        file.write(full, description=text, **options)
        file.write(full[::2, ::2], subfiletype=1, **options)
    source = open_source(path)
    assert source.reader.startswith("tifffile")
    slide = openslide.OpenSlide(path)
    assert slide.properties["openslide.vendor"] == "philips"
    sizes = [float(slide.properties[f"openslide.mpp-{axis}"]) for axis in "yx"]
    assert source.georef.pixel_size == PixelSize(*map(pytest.approx, sizes), "um")
    assert sizes == pytest.approx([0.25, 0.5])
