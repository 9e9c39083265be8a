"""Tiles show what is stored: the image's own pixels, and the mask's classes on them."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from tiny import noise
from viewing import COLS, ROWS, finished, picture, rgba

import tilseg
from tilseg.card import ClassInfo
from tilseg.georef import ONE_TO_ONE, Factors, Georef
from tilseg.look import GROUND, Look, choose_look
from tilseg.nodata import NODATA
from tilseg.sinks.ngff import rgb
from tilseg.sinks.zarr import MaskStore
from tilseg.view.grid import OVERLAP, TILE, ViewGrid
from tilseg.view.overlay import Growing, Overlay
from tilseg.view.picture import Picture
from tilseg.view.session import Session
from tilseg.window import Size, Window


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    session = Session(finished(tmp_path_factory.mktemp("view")))
    yield session
    session.stop()


@pytest.fixture(scope="module")
def pixels(tmp_path_factory):
    return picture(tmp_path_factory.mktemp("same") / "slide.tif")


def whole(tile, grid: ViewGrid, zoom: int) -> np.ndarray:
    """All tiles of a zoom, put together; where they overlap they are the same."""
    rows, cols = grid.size(zoom)
    found = np.zeros((rows, cols, 4), np.uint8)
    seen = np.zeros((rows, cols), bool)
    for row, col in np.ndindex(-(-rows // TILE), -(-cols // TILE)):
        place = grid.tile(zoom, row, col).slices
        pixels = rgba(tile(zoom, row, col))
        assert np.array_equal(pixels[seen[place]], found[place][seen[place]])
        found[place], seen[place] = pixels, True
    assert seen.all()
    return found


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_every_zoom_is_covered_once_and_the_last_is_one_tile(rows, cols):
    grid = ViewGrid(Size(rows, cols))
    assert max(grid.size(grid.zooms - 1)) <= TILE
    assert grid.zooms == 1 or max(grid.size(grid.zooms - 2)) > TILE
    for zoom in range(grid.zooms):
        size = grid.size(zoom)
        assert (size.rows - 1) * 2**zoom < rows <= size.rows * 2**zoom
        counts = [-(-side // TILE) for side in size]
        tiles = [grid.tile(zoom, r, c) for r in range(counts[0]) for c in range(counts[1])]
        for r, c in np.ndindex(*counts):
            own = Window(r * TILE, c * TILE, TILE, TILE).intersection(Window.whole(size))
            assert tiles[r * counts[1] + c].contains(own)
            assert max(tiles[r * counts[1] + c].size) <= TILE + 2 * OVERLAP
        assert grid.tile(zoom, counts[0], 0) is None
        assert grid.tile(zoom, 0, counts[1]) is None
    assert grid.tile(grid.zooms, 0, 0) is None


def test_the_finest_zoom_is_the_image_pixel_by_pixel(session, pixels):
    shown = whole(session.image_tile, session.grid, 0)
    assert np.array_equal(shown[..., :3], pixels)
    assert (shown[..., 3] == 255).all()


def test_coarser_zooms_have_the_means_of_the_image(session, pixels):
    for zoom in (1, 2):
        step = 2**zoom
        shown = whole(session.image_tile, session.grid, zoom)[..., :3]
        inside = shown[: ROWS // step, : COLS // step].astype(float)
        cut = pixels[: ROWS // step * step, : COLS // step * step].astype(float)
        means = cut.reshape(ROWS // step, step, COLS // step, step, 3).mean(axis=(1, 3))
        # Ours are weighted by a triangle, which is wider than the box.
        assert np.corrcoef(inside.ravel(), means.ravel())[0, 1] > 0.97
        assert abs(inside.mean() - means.mean()) < 1


def test_levels_of_the_file_are_shown_as_they_are(tmp_path):
    pixels = noise(1031, 1213)
    path = tmp_path / "levels.tif"
    with tifffile.TiffWriter(path) as file:
        options = {"photometric": "rgb", "tile": (128, 128), "metadata": None}
        file.write(pixels, subifds=2, **options)
        for step in (2, 4):
            file.write(pixels[::step, ::step] // step, subfiletype=1, **options)
    source = tilseg.open_source(path)
    shown = Picture(source, (0, 1, 2))
    for zoom in (1, 2):
        window = Window.whole(shown.grid.size(zoom))
        expected = pixels[:: 2**zoom, :: 2**zoom] // 2**zoom
        assert np.array_equal(shown.tile(zoom, window), expected)
    shown.close()
    source.close()


def test_an_image_without_levels_is_copied_once(monkeypatch):
    monkeypatch.setattr("tilseg.view.picture._COARSEST", 2)
    monkeypatch.setattr("tilseg.view.picture._COPY", 300)
    pixels = noise(1031, 1213)
    shown = Picture(tilseg.open_source(pixels), (0, 1, 2))
    shown._thread.join()
    assert shown.progress == 1
    direct = Picture(tilseg.open_source(pixels), (0, 1, 2))
    direct.close()
    for zoom in (0, 1):
        window = Window(0, 0, 200, 211)
        assert np.array_equal(shown.tile(zoom, window), direct.tile(zoom, window))
    # Zoom 2 and 3 come from a copy of 129 x 152 pixels, the latter as it is.
    window = Window.whole(shown.grid.size(3))
    assert np.array_equal(shown.tile(3, window), direct._cut(3, window))
    finer = shown.tile(2, Window.whole(shown.grid.size(2)))
    copy = np.repeat(np.repeat(shown.tile(3, window), 2, 0), 2, 1)
    assert np.array_equal(finer, copy[: finer.shape[0], : finer.shape[1]])


def test_where_there_are_no_data_is_ground():
    pixels = noise(97, 131, bands=1, dtype=np.float32)
    pixels[10:20, 30:50] = np.nan
    shown = Picture(tilseg.open_source(pixels), (0,))
    shown.close()
    tile = shown.tile(0, Window(0, 0, 97, 131))
    assert (tile[10:20, 30:50] == GROUND).all()
    assert (np.ptp(tile[:10], axis=2) == 0).all()


def test_sixteen_bits_are_stretched_between_the_percentiles():
    pixels = noise(311, 217, dtype=np.uint16) * 40 + 1000
    source = tilseg.open_source(pixels)
    look = choose_look(source, (2, 0, 1))
    assert look.bands == (2, 0, 1)
    sample = pixels[..., look.bands].reshape(-1, 3)
    assert np.allclose(look.low, np.percentile(sample, 2, axis=0), rtol=0.1)
    assert np.allclose(look.high, np.percentile(sample, 98, axis=0), rtol=0.1)
    colors = look.paint(pixels[..., look.bands], None)
    assert (colors.min(), colors.max()) == (0, 255)
    order = np.argsort(pixels[..., 2].ravel(), kind="stable")
    assert (np.diff(colors[..., 0].ravel()[order].astype(int)) >= 0).all()


def test_bytes_are_shown_as_they_are():
    pixels = noise(31, 37)
    look = choose_look(tilseg.open_source(pixels), (0, 1, 2))
    assert look == Look((0, 1, 2), (0.0,) * 3, (255.0,) * 3)
    assert look.paint(pixels, None) is not None
    assert np.array_equal(look.paint(pixels, None), pixels)


def test_the_mask_has_the_colours_of_the_classes_shown(session):
    mask = session._result.mask.read(Window(0, 0, ROWS, COLS))
    classes = session._result.card.classes
    assert set(np.unique(mask)) == {0, 1, 2}
    shown = whole(lambda *at: session.mask_tile(*at, {1, 2}, False), session.grid, 0)
    for value, info in enumerate(classes):
        there = mask == value
        assert (shown[there][:, 3] == (0 if value == 0 else 255)).all()
        if value:
            assert (shown[there][:, :3] == rgb(info.color)).all()
    alone = whole(lambda *at: session.mask_tile(*at, {2}, False), session.grid, 0)
    assert np.array_equal(alone[..., 3] == 255, mask == 2)


def test_coarse_tiles_of_the_mask_are_its_levels(session):
    mask = session._result.mask.read(Window(0, 0, ROWS, COLS))
    shown = whole(lambda *at: session.mask_tile(*at, {1}, False), session.grid, 1)
    assert np.array_equal(shown[..., 3] == 255, mask[::2, ::2] == 1)


def test_outlines_are_where_another_value_is_near(session):
    mask = session._result.mask.read(Window(0, 0, ROWS, COLS))
    shown = whole(lambda *at: session.mask_tile(*at, {0, 1, 2}, True), session.grid, 0)
    near = np.zeros(mask.shape, bool)
    for axis in (0, 1):
        for step in (1, 2):
            one, other = mask.swapaxes(0, axis), near.swapaxes(0, axis)
            other[step:] |= one[step:] != one[:-step]
            other[:-step] |= one[step:] != one[:-step]
    # Across the seams of tiles too.
    assert np.array_equal(shown[..., 3] == 255, near)


@given(st.sampled_from([0.5, 0.77, 1.0, 1.9, 2.0]), st.integers(0, 2))
def test_a_mask_of_other_pixels_lies_where_its_pixels_do(factor, zoom):
    grid = ViewGrid(Size(211, 307))
    size = Size(*(max(1, round(side / factor)) for side in grid.shape))
    mask = np.arange(size.area).reshape(size)

    class Whole:
        levels = (tilseg.source.Level(size, 1.0, 1.0),)

        def read(self, window, level=0):
            return mask[window.slices]

    tile = Overlay(Whole(), grid, Factors(factor, factor)).tile
    found = tile(zoom, Window.whole(grid.size(zoom)))
    centre = [(np.arange(side) + 0.5) * 2**zoom / factor for side in grid.size(zoom)]
    rows, cols = (
        np.minimum(each.astype(int), side - 1) for each, side in zip(centre, size, strict=True)
    )
    assert np.array_equal(found, mask[np.ix_(rows, cols)])


def test_blocks_appear_as_they_are_done(tmp_path):
    shape, block = Size(1201, 1601), Size(512, 512)
    store = MaskStore.create(tmp_path / "mask.zarr", shape, block)
    mask = noise(*shape, bands=1)[..., 0] % 3
    windows = list(store._arrays[0].windows())
    for window in windows[:2]:
        store.commit(window, mask[window.slices])
    growing = Growing(store)
    growing.look()
    assert growing.done == 2
    for window in windows[2:5]:
        store.commit(window, mask[window.slices])
    growing.look()
    overlay = Overlay(growing, ViewGrid(shape), ONE_TO_ONE)
    there = np.full(shape, NODATA)
    for window in windows[:5]:
        there[window.slices] = mask[window.slices]
    for zoom in (0, 2):
        found = overlay.tile(zoom, Window(0, 0, *overlay.grid.size(zoom)))
        rows, cols = (
            np.minimum(np.arange(count) * 2**zoom + 2**zoom // 2, side - 1)
            for count, side in zip(found.shape, shape, strict=True)
        )
        assert np.array_equal(found, there[np.ix_(rows, cols)])
    assert growing.done == 5
    growing.close()
    coarse = growing.read(Window.whole(growing.levels[1].size), 1)
    step = round(growing.levels[1].row_factor)
    assert np.array_equal(coarse, there[::step, ::step])


def test_a_damaged_block_is_left_out_and_named(tmp_path):
    shape = Size(301, 401)
    store = MaskStore.create(tmp_path / "mask.zarr", shape, Size(128, 128))
    for window in list(store._arrays[0].windows()):
        store.commit(window, np.ones(window.size, np.uint8))
    classes = [ClassInfo(name="a", color="#000000"), ClassInfo(name="b", color="#ff0000")]
    store.finish(name="x", classes=classes, georef=Georef(), background=0)
    shard = tmp_path / "mask.zarr" / "0" / "c" / "1" / "1"
    shard.write_bytes(shard.read_bytes()[:-40])
    overlay = Overlay(MaskStore.open(tmp_path / "mask.zarr"), ViewGrid(shape), ONE_TO_ONE)
    assert (overlay.tile(0, Window(0, 0, 100, 100)) == 1).all()
    assert overlay.damage == ""
    assert (overlay.tile(0, Window(130, 130, 100, 100)) == NODATA).all()
    assert "damaged" in overlay.damage
