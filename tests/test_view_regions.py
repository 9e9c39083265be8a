"""The region under the pointer is that of the table, and the table is that of the result."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet
import pytest
import skimage.measure
from hypothesis import given, settings
from hypothesis import strategies as st
from viewing import finished

import tilseg
from tilseg.georef import Georef
from tilseg.instance_rule import Border, Watershed
from tilseg.instances import find_in_memory, find_instances
from tilseg.plan import RegionOptions
from tilseg.regions.files import write_tables
from tilseg.regions.grid import BlockGrid
from tilseg.regions.measuring import Measuring
from tilseg.sinks.shards import BlockArray
from tilseg.view.pointer import RegionFinder
from tilseg.view.regions import Regions
from tilseg.view.session import Session
from tilseg.window import Size, Window


def blobs(rows, cols, seed, classes=3, block=5):
    """A mask of 0..classes-1 in which regions touch, enclose each other and have all sizes."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, classes, (rows // block + 2, cols // block + 2))
    mask = np.repeat(np.repeat(coarse, block, 0), block, 1)[:rows, :cols].astype(np.uint8)
    mask[rng.random(mask.shape) < 0.02] = 0
    mask[rows // 3 : rows // 3 + 4] = 255
    return mask


def finder(mask, options, folder, labels=None):
    """A finder of the regions that `tilseg.measure` finds in a mask."""
    found = tilseg.measure(mask, regions=options, nodata=255, background=0)
    write_tables(found, folder)
    return RegionFinder(
        Regions(folder / "regions.parquet"),
        lambda window: mask[window.slices],
        labels,
        Size(*mask.shape),
        options,
        0,
    )


def points(mask, count, seed=0):
    rng = np.random.default_rng(seed)
    return [tuple(map(int, rng.integers(0, mask.shape))) for _ in range(count)]


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("seed", range(3))
def test_every_pixel_leads_to_its_region(tmp_path, connectivity, seed):
    mask = blobs(211, 307, seed)
    options = RegionOptions(connectivity=connectivity, instances=None)
    find = finder(mask, options, tmp_path)
    values = np.where(mask == 255, 0, mask)
    expected = skimage.measure.label(values, connectivity=1 if connectivity == 4 else 2)
    for row, col in points(mask, 250, seed):
        index = find.at(row, col)
        assert (0 if index is None else index + 1) == expected[row, col]


def test_regions_inside_one_that_is_larger_than_what_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("tilseg.view.pointer._MOST_PIXELS", 60 * 60)
    mask = np.ones((307, 211), np.uint8)
    mask[40:60, 40:70] = 0
    mask[45:55, 50:60] = 1
    find = finder(mask, RegionOptions(instances=None), tmp_path)
    assert find.at(50, 55) == 1
    assert find.at(200, 100) == 0
    # By what it leaves out: the island is too small to hold what is around this point.
    assert find.at(42, 30) == 0


def test_what_can_not_be_told_is_not_told(tmp_path, monkeypatch):
    monkeypatch.setattr("tilseg.view.pointer._MOST_PIXELS", 60 * 60)
    monkeypatch.setattr("tilseg.view.pointer._MARGINS", (16,))
    # Two combs that hold into each other, each with nearly the box of the other.
    mask = np.zeros((301, 401), np.uint8)
    mask[:, :20] = mask[:, -20:] = 1
    mask[10:20, :350] = mask[110:120, :350] = mask[290:300, :350] = 1
    mask[60:70, 50:] = mask[200:210, 50:] = 1
    find = finder(mask, RegionOptions(instances=None), tmp_path)
    assert len(find.regions) == 2
    assert find.at(115, 200) is None


def test_regions_that_were_left_out_are_not_found(tmp_path):
    mask = blobs(211, 307, 1)
    options = RegionOptions(instances=None, min_area=120)
    find = finder(mask, options, tmp_path)
    expected = skimage.measure.label(np.where(mask == 255, 0, mask), connectivity=2)
    large = np.bincount(expected.ravel()) >= 120
    renumbered = np.cumsum(large[1:])
    for row, col in points(mask, 200):
        label = expected[row, col]
        index = find.at(row, col)
        if label and large[label]:
            assert index == renumbered[label - 1] - 1
        else:
            assert index is None


@pytest.mark.parametrize("rule", [Watershed(), Watershed(depth=0.2), Border(radius=3, border=2)])
def test_objects_that_touch_are_told_apart_as_the_run_did(tmp_path, rule):
    rng = np.random.default_rng(3)
    mask = np.zeros((233, 307), np.uint8)
    rows, cols = np.ogrid[:233, :307]
    for row, col, radius in rng.integers((0, 0, 4), (233, 307, 13), (90, 3)):
        disk = (rows - row) ** 2 + (cols - col) ** 2 <= radius**2
        mask[disk & (mask == 0)] = 2
        mask[(rows - row) ** 2 + (cols - col) ** 2 <= (radius - 2) ** 2] = 1
    if isinstance(rule, Watershed):
        mask = (mask > 0).astype(np.uint8)
    options = RegionOptions(instances=rule)
    measuring = Measuring.on(
        Georef(), BlockGrid(Size(*mask.shape), Size(64, 64)), options, nodata=255, background=0
    )
    oracle = find_instances(
        lambda window: mask[window.slices], measuring, rule, tmp_path / "work", block=Size(64, 64)
    ).read(Window.whole(Size(*mask.shape)))
    memory = find_in_memory(mask, rule, nodata=255, background=0, connectivity=2)
    assert np.array_equal(memory, oracle)
    find = finder(mask, options, tmp_path)
    assert len(find.regions) == oracle.max()
    told = 0
    for row, col in points(mask, 300):
        index = find.at(row, col)
        if index is not None:
            assert index + 1 == oracle[row, col]
            told += 1
    assert told >= 0.95 * sum(oracle[point] > 0 for point in points(mask, 300))


def test_stored_labels_are_taken_at_their_word(tmp_path):
    mask = blobs(131, 97, 4)
    labels = skimage.measure.label(np.where(mask == 255, 0, mask)).astype(np.uint32)
    array = BlockArray.create(tmp_path / "0", Size(131, 97), Size(131, 97), dtype=np.uint32)
    array.commit(Window(0, 0, 131, 97), labels)
    find = finder(mask, RegionOptions(instances=None), tmp_path, array.read)
    for row, col in points(mask, 100):
        index = find.at(row, col)
        assert (0 if index is None else index + 1) == labels[row, col]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    session = Session(finished(tmp_path_factory.mktemp("view"), regions=RegionOptions(labels=True)))
    yield session
    session.stop()


@pytest.fixture(scope="module")
def table(session):
    return pyarrow.parquet.read_table(session._result.regions).to_pydict()


def test_a_region_has_all_that_the_table_says(session, table):
    for label in (1, 2, len(table["label"])):
        found = session.region(label)
        assert found["values"] == {name: values[label - 1] for name, values in table.items()}
        assert found["box"] == [table[f"bbox-{side}"][label - 1] for side in range(4)]
    assert session.region(0) is None
    assert session.region(len(table["label"]) + 1) is None


def test_outlines_follow_stored_labels(session):
    labels = BlockArray.open(session._result.labels / "0").read(Window.whole(session.grid.shape))
    near = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for step in (1, 2):
            one, other = labels.swapaxes(0, axis), near.swapaxes(0, axis)
            other[step:] |= one[step:] != one[:-step]
            other[:-step] |= one[step:] != one[:-step]
    found = session._bordered.borders(0, Window.whole(session.grid.shape))
    assert np.array_equal(found, near)


def test_under_a_pixel_is_what_mask_and_table_say(session, table):
    mask = session._result.mask.read(Window.whole(session.grid.shape))
    for row, col in points(mask, 60):
        found = session.at(row + 0.5, col + 0.5)
        assert found["class"] == mask[row, col]
        if found["region"]:
            values = found["region"]["values"]
            assert values["class"] == mask[row, col]
            assert values["bbox-0"] <= row < values["bbox-2"]
            assert values["bbox-1"] <= col < values["bbox-3"]
        else:
            assert mask[row, col] == 0
    assert session.at(-0.1, 5) == {}
    assert session.at(5, session.grid.shape.cols) == {}


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("by", ["label", "class", "area", "area_um2", "eccentricity"])
def test_pages_are_the_table_in_order(session, table, by, down):
    total = len(table[by])
    count = total // 3 + 1
    rows = []
    for start in range(0, total, count):
        page = session.page(by, down, start, count, None)
        assert (page["start"], page["total"]) == (start, total)
        rows += page["rows"]
    assert sorted(row["label"] for row in rows) == list(range(1, total + 1))
    values = np.array([row[by] for row in rows])
    assert (np.diff(values) <= 0 if down else np.diff(values) >= 0).all()
    for label in (1, total // 2, total):
        page = session.page(by, down, 0, count, label)
        assert label in [row["label"] for row in page["rows"]]


def test_columns_that_are_not_there_can_not_be_asked_for(session):
    assert session.page("nothing", False, 0, 10, None) is None
    assert session.page("label", False, 10**9, 10, None)["rows"] == []


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_boxes_at_a_pixel_are_those_that_hold_it(seed):
    rng = np.random.default_rng(seed)
    first = np.sort(rng.integers(0, 50, 30)), rng.integers(0, 50, 30)
    size = rng.integers(1, 20, (2, 30))
    regions = Regions.__new__(Regions)
    regions.classes = rng.integers(0, 3, 30).astype(np.uint8)
    regions.boxes = (*first, first[0] + size[0], first[1] + size[1])
    row, col = map(int, rng.integers(0, 60, 2))
    inside = (first[0] <= row) & (row < first[0] + size[0])
    inside &= (first[1] <= col) & (col < first[1] + size[1])
    assert np.array_equal(regions.at(row, col, None), np.flatnonzero(inside))
    assert np.array_equal(regions.at(row, col, 1), np.flatnonzero(inside & (regions.classes == 1)))
