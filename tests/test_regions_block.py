"""One block's table: bytes and back, what it refuses, and what merging refuses."""

from __future__ import annotations

import pickle
import weakref

import numpy as np
import pytest
from regions_oracle import assert_like_skimage, block_tables, tiled

from tilseg.errors import DamageError, InputError
from tilseg.regions import BlockGrid, BlockTable, Rules, label_blocks, measure_block, merge
from tilseg.window import Size, Window


def mask_of(shape, classes=2, seed=3):
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, classes + 1, shape, dtype=np.uint8)
    mask[rng.random(shape) < 0.05] = 255
    return mask


def same(one: BlockTable, two: BlockTable) -> None:
    assert (one.window, one.shape, one.rules) == (two.window, two.shape, two.rules)
    assert (one.background, one.nodata) == (two.background, two.nodata)
    for name in ("border", "strip_rows", "strip_cols", "open_windows", "open_pixels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    for name in ("classes", "first", "bbox", "moments", "windows", "pixels", "bands", "world"):
        ours, theirs = getattr(one.sums, name), getattr(two.sums, name)
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(one.sums.extrema, two.sums.extrema)
    assert (one.sums.hull is None) == (two.sums.hull is None)
    for ours, theirs in zip(one.sums.hull or (), two.sums.hull or (), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("with_hull", [False, True])
@pytest.mark.parametrize("dtype", [None, np.uint8, np.int16, np.float32])
def test_a_table_survives_its_bytes(dtype, with_hull):
    shape, window = Size(90, 70), Window(20, 30, 31, 23)
    image = None
    if dtype is not None:
        image = np.random.default_rng(4).normal(-50, 9e3, (31, 23, 2)).astype(dtype)
    table = measure_block(
        mask_of((31, 23)),
        window,
        shape=shape,
        nodata=None,
        background=None,
        connectivity=1,
        image=image,
        weights=np.linspace(1, 2, 31),
        with_hull=with_hull,
    )
    content = table.to_bytes()
    same(table, BlockTable.from_bytes(content))
    assert BlockTable.from_bytes(content).to_bytes() == content
    same(table, pickle.loads(pickle.dumps(table)))


def test_the_same_block_gives_the_same_bytes():
    mask = mask_of((50, 40))
    window = Window(0, 0, 50, 40)
    one, two = (measure_block(mask.copy(), window, shape=window.size) for _ in range(2))
    assert one.to_bytes() == two.to_bytes()


def test_a_table_is_small():
    window = Window(0, 0, 512, 512)
    mask = np.kron(mask_of((64, 64)), np.ones((8, 8), dtype=np.uint8))
    table = measure_block(mask, window, shape=Size(2048, 2048))
    assert len(table.to_bytes()) < 150 * len(table.sums) + 40 * 512


def damaged(content: bytes):
    yield content[: len(content) // 2]
    yield b""
    yield b"PK" + content[5:]
    middle = content.index(b"strip_rows.npy") + 300
    yield content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    yield content.replace(b"sums.first.npy", b"sums.thirst.np")


def test_a_damaged_table_is_refused():
    mask = mask_of((40, 40))
    content = measure_block(mask, Window(0, 0, 40, 40), shape=Size(80, 80)).to_bytes()
    for bad in damaged(content):
        with pytest.raises(DamageError) as caught:
            BlockTable.from_bytes(bad)
        assert caught.value.id == "E-REGION-TABLE"


@pytest.mark.parametrize(
    ("mask", "id"),
    [
        (np.ones((4, 5), dtype=np.float32), "E-MASK-DTYPE"),
        (np.ones((4, 5), dtype=np.complex64), "E-MASK-DTYPE"),
        (np.full((4, 5), -1, dtype=np.int16), "E-MASK-NEGATIVE"),
    ],
)
def test_masks_that_are_none(mask, id):
    with pytest.raises(InputError) as caught:
        measure_block(mask, Window(0, 0, 4, 5), shape=Size(4, 5))
    assert caught.value.id == id
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("image", "id"),
    [
        (np.ones((4, 6, 1), dtype=np.uint8), "E-REGION-IMAGE"),
        (np.ones((4, 5), dtype=np.uint8), "E-REGION-IMAGE"),
        (np.ones((4, 5, 1), dtype=np.complex64), "E-INPUT-DTYPE"),
    ],
)
def test_images_that_do_not_fit(image, id):
    mask = np.ones((4, 5), dtype=np.uint8)
    with pytest.raises(InputError) as caught:
        measure_block(mask, Window(0, 0, 4, 5), shape=Size(4, 5), image=image)
    assert caught.value.id == id


def test_a_negative_nodata_is_a_class_nowhere():
    mask = np.array([[-1, 1, 1], [0, -1, 3]], dtype=np.int16)
    with pytest.raises(InputError, match="class -1"):
        measure_block(mask, Window(0, 0, 2, 3), shape=Size(2, 3))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.int64, np.bool_])
def test_masks_of_every_integer_type(dtype):
    mask = mask_of((31, 17)).astype(dtype)
    assert_like_skimage(tiled(mask, (8, 9)), mask)


def test_the_largest_class_is_a_class_when_it_is_not_nodata():
    mask = np.array([[254, 255, 255, 0, 7]], dtype=np.uint8)
    rules = {"nodata": 7, "background": None}
    regions = tiled(mask, (1, 2), **rules)
    assert regions.columns["class"].tolist() == [254, 255, 0]
    assert_like_skimage(regions, mask, **rules)


def test_pixels_that_are_in_no_region_are_counted():
    mask = mask_of((37, 41))
    regions = tiled(mask, (16, 16))
    assert regions.background == np.count_nonzero(mask == 0)
    assert regions.nodata == np.count_nonzero(mask == 255)
    in_regions = int(regions.columns["area"].sum())
    assert regions.background + regions.nodata + in_regions == mask.size


def test_labels_need_their_block():
    with pytest.raises(ValueError, match="not rows"):
        measure_block(np.ones((3, 3), np.uint8), Window(0, 0, 4, 3), shape=Size(9, 9))
    with pytest.raises(ValueError, match="not rows"):
        measure_block(np.ones((4, 3), np.uint8), Window(7, 0, 4, 3), shape=Size(9, 9))


def test_rules_are_refused():
    with pytest.raises(ValueError, match="connectivity is 1 or 2"):
        Rules(connectivity=8)


def test_tables_that_do_not_belong_together():
    grid, tables = block_tables(mask_of((20, 30)), (10, 10))
    _, others = block_tables(mask_of((20, 30)), (10, 10), connectivity=1)
    _, elsewhere = block_tables(mask_of((20, 40)), (10, 10))
    with pytest.raises(ValueError, match="5 tables for 6 blocks"):
        merge(tables[:-1], grid)
    with pytest.raises(ValueError, match="two tables of"):
        merge([*tables, tables[0]], grid)
    with pytest.raises(ValueError, match="another mask"):
        merge([*tables[:-1], others[-1]], grid)
    with pytest.raises(ValueError, match="another mask"):
        merge([elsewhere[0], *tables[1:]], grid)
    with pytest.raises(ValueError, match="not a block of"):
        merge(tables, BlockGrid(Size(20, 30), Size(10, 15)))


def test_a_grid_numbers_its_blocks_in_raster_order():
    grid = BlockGrid(Size(23, 31), Size(7, 10))
    assert grid.counts == (4, 4)
    cover = np.zeros(grid.shape, dtype=int)
    for index, window in enumerate(grid):
        cover[window.slices] += 1
        assert grid.index(window) == index
    assert (cover == 1).all()
    with pytest.raises(IndexError):
        grid.window(16)
    with pytest.raises(ValueError, match="empty"):
        BlockGrid(Size(0, 3), Size(1, 1))


@pytest.mark.parametrize("side", [3, 8, 20])
def test_strips_are_forgotten_row_by_row(side):
    """In raster order, memory holds the strips of the rows whose seams are not done."""
    mask = mask_of((10 * side, 3 * side))
    grid = BlockGrid(Size(*mask.shape), Size(side, side))
    strips, most = [], 0

    def tables():
        nonlocal most
        for window in grid:
            table = measure_block(mask[window.slices], window, shape=grid.shape)
            strips.append(weakref.ref(table.strip_rows))
            yield table
            del table
            most = max(most, sum(strip() is not None for strip in strips))

    assert_like_skimage(merge(tables(), grid), mask)
    # Seams look 4 pixels beyond themselves: over blocks of 3 rows, into the next but one.
    assert most <= 3 * (2 if side >= 4 else 4) + 1


def test_label_blocks_come_in_raster_order_as_uint32():
    mask = mask_of((20, 30))
    regions = tiled(mask, (7, 11))
    found = list(label_blocks(lambda window: mask[window.slices], regions))
    assert [window for window, _ in found] == list(regions.grid)
    assert {labels.dtype for _, labels in found} == {np.dtype(np.uint32)}
