"""A scene of one file per band gives the mask of the same bands in one file."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from tiny import STEADY, noise, save_tiny_model, tilseg

import tilseg as package
from tilseg.errors import InputError, OutputError
from tilseg.source import open_source

NAMES = ("B04", "B08", "B02")
SHAPE = (143, 101)


def write(path: Path, bands: np.ndarray, side: float = 10.0, **profile) -> Path:
    """A GeoTIFF of (rows, cols, bands)."""
    transform = from_origin(4e5, 5e6, side, side)
    rows, cols, count = bands.shape
    with rasterio.open(
        path, "w", driver="GTiff", dtype=bands.dtype, count=count, height=rows, width=cols,
        crs="EPSG:32633", transform=transform, nodata=0, **profile,
    ) as dataset:  # fmt: skip
        dataset.write(np.moveaxis(bands, -1, 0))
    return path


@pytest.fixture
def scene(tmp_path: Path) -> np.ndarray:
    """The bands as the model wants them, written one a file; and `tiny.safetensors`, which names them."""
    bands = noise(*SHAPE).astype(np.uint16) + 1
    bands[40:90, 30:70] = 0
    folder = tmp_path / "lake"
    folder.mkdir()
    for k, name in enumerate(NAMES):
        write(folder / f"T33_2023_{name}_10m.tif", bands[..., k : k + 1])
    write(folder / "T33_2023_B11_10m.tif", bands[::-1, :, :1])
    save_tiny_model(tmp_path / "tiny.safetensors", normalization=STEADY, band_names=NAMES)
    return bands


def segment(image, folder: Path, output: str, *, tile: int | None = None, **options) -> np.ndarray:
    """The mask of one run, as rasterio reads it."""
    source = open_source(image, **options)
    model = package.load_model(folder / "tiny.safetensors", threads=1)
    plan = package.make_plan(source, model, tile=tile, threads=1, memory="2GB", regions=None)
    package.run(plan, folder / output)
    with rasterio.open(folder / output / "mask.tif") as dataset:
        return dataset.read(1)


def test_the_mask_is_that_of_the_same_bands_in_one_file(scene, tmp_path):
    whole = segment(write(tmp_path / "stack.tif", scene), tmp_path, "stack.tilseg")
    assert set(np.unique(whole)) == {0, 1, 255}
    # The pattern gives B02, B04, B08, B11: the model asks for three of them by name.
    done = tilseg("run", "lake/*_B*.tif", "--model", "tiny.safetensors", "--tile", 48, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with rasterio.open(tmp_path / "T33_2023.tilseg" / "mask.tif") as mask:
        np.testing.assert_array_equal(mask.read(1), whole)
        with rasterio.open(tmp_path / "stack.tif") as stack:
            assert (mask.crs, mask.transform) == (stack.crs, stack.transform)
    again = tilseg(
        "run", "lake/*_B*.tif", "--model", "tiny.safetensors", "--tile", 48, cwd=tmp_path
    )
    assert "nothing to do" in again.stdout
    shown = tilseg("info", "lake/*_B*.tif", cwd=tmp_path).stdout
    assert "4 of uint16: B02, B04, B08, B11" in shown
    assert "put together from 4 files" in shown


def test_a_coarser_band_is_aligned_the_same_for_any_tile(scene, tmp_path):
    folder = tmp_path / "lake"
    coarse = write(folder / "coarse_B08.tif", scene[::2, ::2, 1:2], 20.0)
    names = [folder / "T33_2023_B02_10m.tif", folder / "T33_2023_B04_10m.tif", coarse]
    with pytest.raises(InputError, match=r"51 x 72 px at .* 101 x 143 px at"):
        open_source(names)
    bands = scene.copy()
    bands[..., 1] = scene[::2, ::2, 1].repeat(2, 0).repeat(2, 1)[: SHAPE[0], : SHAPE[1]]
    whole = segment(write(tmp_path / "stack.tif", bands), tmp_path, "whole.tilseg")
    for tile in (16, 44):
        found = segment(names, tmp_path, f"{tile}.tilseg", tile=tile, align=True)
        np.testing.assert_array_equal(found, whole)


def test_missing_bands_are_named(scene, tmp_path):
    model = package.load_model(tmp_path / "tiny.safetensors", threads=1)
    source = open_source(f"{tmp_path}/lake/*_B[01]2*.tif,{tmp_path}/lake/*_B11*")
    words = "has no band B04 or B08; its bands are B02, B11, the model's B04, B08, B02; add"
    with pytest.raises(InputError, match=words) as caught:
        package.make_plan(source, model)
    assert caught.value.exit_code == 4


def test_a_file_that_changes_meanwhile_is_named(scene, tmp_path):
    source = open_source(f"{tmp_path}/lake/*.tif")
    model = package.load_model(tmp_path / "tiny.safetensors", threads=1)
    plan = package.make_plan(source, model, tile=16, threads=1, memory="2GB", regions=None)
    changed = tmp_path / "lake" / "T33_2023_B08_10m.tif"
    pixels = np.ones((*SHAPE, 1), np.uint16)

    def spoil(progress):
        if progress.phase == "predict" and progress.done == progress.total:
            write(changed, pixels)

    with pytest.raises(InputError, match=rf"\({changed}\)") as caught:
        package.run(plan, tmp_path / "out.tilseg", progress=spoil)
    assert caught.value.id == "E-INPUT-CHANGED"
    assert not (tmp_path / "out.tilseg").exists()


def test_no_output_may_lie_over_a_file_of_the_scene(scene, tmp_path):
    names = sorted((tmp_path / "lake").iterdir())
    before = [path.read_bytes() for path in names]
    for path in names:
        with pytest.raises(OutputError, match=path.name):
            segment(names, tmp_path, f"lake/{path.name}")
    assert [path.read_bytes() for path in names] == before


def test_real_grids_are_kept_to_the_last_bit(real_data, tmp_path):
    done = 0
    model = save_tiny_model(tmp_path / "tiny.safetensors", bands=2, normalization=STEADY.model_copy(
        update={"mean": (99.0,) * 2, "std": (60.0,) * 2}))  # fmt: skip
    network = package.load_model(model, threads=1)
    for path in sorted((real_data / "geo_edge").iterdir()):
        try:
            one = open_source(path)
        except InputError:
            continue
        copy = tmp_path / f"copy{path.suffix}"
        shutil.copyfile(path, copy)
        both = open_source([path, copy])
        assert both.georef == one.georef, path.name
        assert both.levels == one.levels, path.name
        if one.shape.area < 300_000:
            plan = package.make_plan(
                both, network, bands=(1, one.bands + 1), threads=1, memory="2GB", regions=None,
                resolution="native",
            )  # fmt: skip
            package.run(plan, tmp_path / f"{path.stem}.tilseg")
            with (
                rasterio.open(path) as dataset,
                rasterio.open(tmp_path / f"{path.stem}.tilseg" / "mask.tif") as mask,
            ):
                assert (mask.crs, tuple(mask.transform)) == (dataset.crs, tuple(dataset.transform))
            done += 1
        copy.unlink()
    assert done >= 6
