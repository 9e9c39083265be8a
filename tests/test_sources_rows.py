"""Images in strips as wide as themselves, read block beside block."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import tifffile
import zarr
from contracts.source_contract import SourceContract, random_windows
from rasterio.transform import from_origin
from tiny import noise, save_tiny_model

import tilseg
from tilseg.errors import InputError
from tilseg.source import open_source
from tilseg.sources import rows
from tilseg.sources.planned import open_planned
from tilseg.sources.resampled import ResampledSource
from tilseg.sources.rows import WholeRows
from tilseg.window import Window

SHAPE = (311, 463)


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    monkeypatch.setattr(rows, "_ROWS", 13)


def striped(path, **options):
    options = {"rowsperstrip": 7, "compression": "deflate"} | options
    tifffile.imwrite(path, noise(*SHAPE), photometric="rgb", **options)
    return path


def striped_map(path):
    """With a hole in its mask."""
    pixels = noise(*SHAPE)
    valid = np.full(SHAPE, 255, np.uint8)
    valid[50:90, 100:301] = 0
    with rasterio.open(
        path, "w", driver="GTiff", height=SHAPE[0], width=SHAPE[1], count=3, dtype="uint8",
        compress="lzw", blockysize=5, crs="EPSG:32633", transform=from_origin(0, 0, 10, 10),
    ) as file:  # fmt: skip
        file.write(np.moveaxis(pixels, 2, 0))
        file.write_mask(valid)
    return path


class TestStripsOfATiff(SourceContract):
    def write(self, folder):
        return striped(folder / "strips.tif")

    def whole(self, image, level):
        return tifffile.imread(image, level=level)

    def open(self, image):
        return WholeRows(open_source(image), 0, (0, 1, 2), 40)


class TestStripsOfAMap(SourceContract):
    def write(self, folder):
        return striped_map(folder / "map.tif")

    def whole(self, image, level):
        with rasterio.open(image) as file:
            return np.moveaxis(file.read(), 0, 2)

    def open(self, image):
        return WholeRows(open_source(image), 0, (0, 1, 2), 40)


def test_which_images_are_in_strips(tmp_path):
    def strip(name):
        return open_source(tmp_path / name).levels[0].strip

    striped(tmp_path / "deflate.tif")
    striped(tmp_path / "raw.tif", compression=None)
    striped(tmp_path / "turned.tif", extratags=[(274, "H", 1, 6, True)])
    striped(tmp_path / "tiles.tif", rowsperstrip=None, tile=(64, 64))
    striped_map(tmp_path / "map.tif")
    # Uncompressed rows are read as they lie.
    found = [strip(f"{name}.tif") for name in ("deflate", "raw", "turned", "tiles", "map")]
    assert found == [7, 0, 0, 0, 5]


def test_every_row_is_decoded_once_for_all_blocks_beside_each_other(tmp_path, monkeypatch):
    image = open_source(striped(tmp_path / "strips.tif"))
    asked = []
    read = image.read

    def count(window, *which):
        asked.append(window)
        return read(window, *which)

    monkeypatch.setattr(image, "read", count)
    source = WholeRows(image, 0, (0, 1, 2), 90)
    windows = [Window(9, col, 90, 61) for col in range(0, SHAPE[1] - 61, 31)]
    with ThreadPoolExecutor(8) as threads:
        for window, found in zip(windows, threads.map(source.read, windows), strict=True):
            np.testing.assert_array_equal(found, read(window))
    assert len(windows) > 12
    assert all(window.cols == SHAPE[1] for window in asked)
    decoded = [row for window in asked for row in range(window.row, window.row_stop)]
    assert len(decoded) == len(set(decoded))


def test_memory_is_bounded(tmp_path):
    source = WholeRows(open_source(striped(tmp_path / "strips.tif")), 0, (0, 1, 2), 40)
    for row in range(0, 270, 17):
        source.read(Window(row, 5, 40, 40))
        source.mask(Window(row, 5, 40, 40))
    held = [piece.result().nbytes for piece in source._pixels._pieces.values()]
    assert 40 * SHAPE[1] * 3 <= sum(held) <= source.kept_bytes


def test_only_those_that_see_a_damaged_strip_hear_of_it(tmp_path):
    path = striped(tmp_path / "strips.tif")
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].dataoffsets[20]
    with path.open("r+b") as file:
        file.seek(place)
        file.write(b"\xff" * 16)
    plain, source = open_source(path), WholeRows(open_source(path), 0, (0, 1, 2), 60)
    failed = 0
    for window in random_windows(plain.shape, 60, seed=1):
        if window.row < 147 and window.row_stop > 140:
            failed += 1
            with pytest.raises(InputError, match="strip 20"):
                source.read(window)
        else:
            np.testing.assert_array_equal(source.read(window), plain.read(window))
    assert 9 < failed < 60


@pytest.fixture
def model(tmp_path):
    return tilseg.load_model(save_tiny_model(tmp_path / "m.safetensors"), device="cpu")


def test_a_plan_keeps_rows_where_that_spares_decoding_and_fits(tmp_path, model):
    strips = open_source(striped(tmp_path / "strips.tif"))
    tiles = open_source(striped(tmp_path / "tiles.tif", rowsperstrip=None, tile=(64, 64)))
    narrow = open_source(np.ascontiguousarray(noise(311, 40)))

    def keeps(source, **options):
        return tilseg.make_plan(source, model, tile=48, **options).keep_rows

    assert keeps(strips)
    assert keeps(strips, resolution="native")
    assert not keeps(tiles)
    assert not keeps(narrow)
    plan = tilseg.make_plan(strips, model, tile=48)
    needs = tilseg.tiling.needed_memory
    rest = plan.lanes, open_planned(replace(plan, keep_rows=False)), model
    bare = needs(plan.grid, *rest)
    kept = needs(plan.grid, plan.lanes, open_planned(plan), model)
    assert kept - bare == open_planned(plan).kept_bytes > 0
    assert keeps(strips, memory=kept)
    assert not keeps(strips, memory=kept - 1)


@pytest.mark.parametrize(("metres", "kind"), [("native", WholeRows), ("17m", ResampledSource)])
def test_the_mask_is_the_same(tmp_path, model, metres, kind):
    source = open_source(striped_map(tmp_path / "map.tif"))
    plan = tilseg.make_plan(source, model, tile=48, resolution=metres)
    assert plan.keep_rows
    assert isinstance(open_planned(plan), kind)
    masks = []
    for keep in (True, False):
        output = tmp_path / f"{keep}.tilseg"
        tilseg.run(replace(plan, keep_rows=keep), output, outputs=("zarr",))
        masks.append(zarr.open_array(output / "mask.zarr" / "0", mode="r")[:])
    np.testing.assert_array_equal(*masks)
    assert len(np.unique(masks[0])) > 2
