"""The from-to table and the change mask are those of the whole arrays, however they are cut."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tilseg.changes.change import compare, mask_values
from tilseg.changes.pair import paired
from tilseg.changes.pictures import Overview
from tilseg.regions import BlockGrid
from tilseg.truth.raster import open_raster
from tilseg.window import Size

sides = st.integers(1, 61)


def maps(seed: int, shape: tuple[int, int], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Two maps with pixels without a class, that share some of their classes."""
    rng = np.random.default_rng(seed)
    before = rng.integers(0, classes, shape).astype(np.uint8)
    after = np.where(rng.random(shape) < 0.6, before, rng.integers(1, classes + 2, shape))
    after = after.astype(np.uint8)
    for each in (before, after):
        each[rng.random(shape) < 0.1] = 255
    before[0, 0] = after[0, 0] = 1
    return before, after


@given(
    shape=st.tuples(sides, sides),
    block=st.tuples(sides, sides),
    seed=st.integers(0, 2**20),
    classes=st.sampled_from([1, 2, 5, 30]),
)
def test_any_blocks_give_the_counts_of_the_whole(shape, block, seed, classes):
    before, after = maps(seed, shape, classes)
    pair = paired(open_raster(before), open_raster(after))
    found = compare(pair, Size(*block))
    valid = (before != 255) & (after != 255)
    expected, counts = np.unique(
        np.stack([before[valid], after[valid]]), axis=1, return_counts=True
    )
    assert {(each.before, each.after): each.pixels for each in found.transitions} == {
        (f"class {old}", f"class {new}"): count
        for (old, new), count in zip(expected.T, counts, strict=True)
    }
    assert found.missing_before == np.count_nonzero(before == 255)
    assert found.missing_after == np.count_nonzero((before != 255) & (after == 255))
    assert found.pixels == valid.sum()
    assert found.changed_pixels == np.count_nonzero(before[valid] != after[valid])

    table, mask = mask_values(pair, found), np.zeros(shape, found.dtype)
    for window in BlockGrid(pair.shape, Size(*block)):
        old, new = pair.read(window)
        mask[window.slices] = np.take(table, old.astype(int) << 8 | new)
    nodata = np.iinfo(found.dtype).max
    assert ((mask == nodata) == ~valid).all()
    assert ((mask == 0) == (valid & (before == after))).all()
    for each in found.changes:
        assert {(f"class {old}", f"class {new}") for old, new in
                zip(before[mask == each.value], after[mask == each.value], strict=True)} == {
            (each.before, each.after)
        }  # fmt: skip
    assert np.unique(mask[valid & (before != after)]).size == len(found.changes)


@given(shape=st.tuples(sides, sides), block=st.tuples(sides, sides), seed=st.integers(0, 2**20))
def test_any_blocks_give_the_same_pictures(shape, block, seed):
    pair = paired(*(open_raster(each) for each in maps(seed, shape, 3)))
    found = compare(pair, Size(*shape))
    table, drawn = mask_values(pair, found), []
    for size in (Size(*shape), Size(*block)):
        overview = Overview(pair, found)
        for window in BlockGrid(pair.shape, size):
            codes = np.stack(pair.read(window))
            overview.add(window, codes, np.take(table, codes[0].astype(int) << 8 | codes[1]))
        drawn.append(overview.pictures())
    assert drawn[0] == drawn[1]
