"""Windows, the mirror and the tile grid, for any image."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilseg.errors import UsageError
from tilseg.plan import TileGrid
from tilseg.receptive_field import ReceptiveField, compose, compose_same
from tilseg.window import Size, Window, mirror_index, read_mirrored

sides = st.integers(1, 47)


@given(size=st.integers(1, 9), start=st.integers(-60, 60), length=st.integers(0, 70))
def test_mirror_is_numpy_reflect_at_any_distance(size, start, length):
    axis = np.arange(size)
    padded = np.pad(axis, 140, mode="reflect") if size > 1 else np.zeros(281, int)
    expected = padded[140 + start : 140 + start + length]
    found = mirror_index(start, start + length, size)
    np.testing.assert_array_equal(found, expected)


@given(
    rows=st.integers(1, 13),
    cols=st.integers(1, 13),
    window=st.tuples(
        st.integers(-30, 30), st.integers(-30, 30), st.integers(1, 40), st.integers(1, 40)
    ),
)
def test_mirrored_read_is_a_crop_of_the_padded_image(rows, cols, window):
    image = np.arange(rows * cols * 2).reshape(rows, cols, 2)
    window = Window(*window)
    read_windows = []

    def read(inside):
        read_windows.append(inside)
        assert Window.whole(Size(rows, cols)).contains(inside)
        return image[inside.slices]

    found = read_mirrored(read, window, Size(rows, cols))
    mode = [("reflect" if n > 1 else "edge") for n in (rows, cols)]
    padded = np.pad(image, ((75, 75), (0, 0), (0, 0)), mode=mode[0])
    padded = np.pad(padded, ((0, 0), (75, 75), (0, 0)), mode=mode[1])
    expected = padded[
        window.row + 75 : window.row_stop + 75, window.col + 75 : window.col_stop + 75
    ]
    np.testing.assert_array_equal(found, expected)
    assert len(read_windows) == 1


fields = st.builds(
    lambda halo, depth, offset: ReceptiveField(halo, 2**depth, offset % 2**depth),
    st.integers(0, 50),
    st.integers(0, 4),
    st.integers(0, 15),
)


@st.composite
def grids(draw):
    field = draw(fields)
    tile = Size(*(field.stride * draw(st.integers(1, 4)) for _ in range(2)))
    blocks = Size(draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    # Up to 12 tiles an axis, the last one cut anywhere.
    shape = Size(*(draw(st.integers(1, 12 * step)) for step in tile))
    return TileGrid(shape, field, tile, blocks)


@given(grids())
def test_every_pixel_has_one_owner(grid):
    owners = np.zeros(grid.shape, int)
    block_owners = np.zeros(grid.shape, int)
    for block in grid:
        block_owners[block.write.slices] += 1
        for tile in block.tiles:
            assert block.write.contains(tile.write)
            owners[tile.write.slices] += 1
    assert (owners == 1).all()
    assert (block_owners == 1).all()


@given(grids())
def test_tiles_are_legal_aligned_and_of_one_shape(grid):
    for block in grid:
        for tile in block.tiles:
            assert tile.read.size == grid.input
            assert tile.write.row % grid.field.stride == tile.write.col % grid.field.stride == 0
            assert block.read.contains(tile.read)
            # The network's output starts at the write window's corner and covers it.
            assert tile.read.row + grid.field.halo == tile.write.row
            assert tile.read.col + grid.field.halo == tile.write.col
            assert grid.field.output_of(tile.read.rows) >= tile.write.rows
            assert grid.field.output_of(tile.read.cols) >= tile.write.cols


@given(grids())
def test_blocks_come_in_raster_order_and_pickle_small(grid):
    corners = [(block.write.row, block.write.col) for block in grid]
    assert corners == sorted(corners)
    assert [block.index for block in grid] == list(range(len(grid)))
    assert len(pickle.dumps(grid)) < 500
    with pytest.raises(IndexError):
        grid.block_at(len(grid))


@given(field=fields, pixels=st.integers(1, 300))
def test_legal_inputs(field, pixels):
    smallest = field.input_for(pixels)
    assert field.is_legal(smallest)
    assert field.output_of(smallest) >= pixels
    assert not any(field.is_legal(n) for n in range(pixels + 2 * field.halo, smallest))


# depth, pixels lost per block (c), per up-sampling (l) -> halo valid, halo same: the table of
# Rumberger et al.'s arithmetic for two 3x3 convolutions a block.
@pytest.mark.parametrize(
    ("depth", "up", "valid", "same"),
    [
        (1, 0, 8, 8),
        (2, 0, 20, 24),
        (3, 0, 44, 48),
        (4, 0, 92, 96),
        (5, 0, 188, 192),
        (3, 2, 51, 56),
        (4, 2, 107, 112),
        (2, 2, 23, 28),
    ],
)
def test_halo_table(depth, up, valid, same):
    losses = ([4] * depth, 4, [4] * depth, [up] * depth)
    assert compose(*losses).halo == valid
    rounded = -(-same // 2**depth) * 2**depth
    assert compose_same(*losses) == ReceptiveField(rounded, 2**depth, 0)


def test_the_paper_takes_572_and_gives_388():
    field = compose([4] * 4, 4, [4] * 4, [0] * 4)
    assert field == ReceptiveField(halo=92, stride=16, offset=12)
    assert field.is_legal(572)
    assert field.output_of(572) == 388
    assert not field.is_legal(600)
    assert field.input_for(384) == 572


@pytest.mark.parametrize(
    ("tile", "words"),
    [(388, "tile 388 is not a multiple of the model's stride 16; use 384 or 400"), (7, "use 16")],
)
def test_the_papers_step_is_refused_with_the_next_legal_ones(tile, words):
    with pytest.raises(UsageError) as caught:
        ReceptiveField(92, 16, 12).check_step(tile)
    assert words in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("tile", [0, -16])
def test_tiles_without_pixels_are_refused(tile):
    with pytest.raises(UsageError, match="not a positive number"):
        ReceptiveField(92, 16, 12).check_step(tile)


def test_misaligned_grid_cannot_be_made():
    with pytest.raises(UsageError):
        TileGrid(Size(100, 100), ReceptiveField(92, 16, 12), Size(388, 384), Size(1, 1))
