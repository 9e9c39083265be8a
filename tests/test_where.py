"""Tissue, regions of interest and nodata are decided pixel by pixel, never by tiles."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import STEADY, noise, save_tiny_model

import tilseg
from tilseg import infer
from tilseg.infer import BlockWorker, Job
from tilseg.plan import TileGrid
from tilseg.receptive_field import ReceptiveField
from tilseg.selection import EVERYTHING, Roi, Selection, TissueMask
from tilseg.stores import Stores
from tilseg.where.chosen import Chosen, skipped_blocks
from tilseg.where.tissue import tissue_png
from tilseg.window import Size, Window

SHAPE = Size(151, 211)
TILES = (28, 64, 4096)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> tilseg.Model:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_tiny_model(path, classes=3, normalization=STEADY)
    return tilseg.load_model(path, threads=1)


def roi_of(polygons) -> Roi:
    return Roi.of(shapely.to_wkb(shapely.geometrycollections(list(polygons))), "x.geojson")


@st.composite
def polygons(draw, shape=SHAPE):
    """Polygons with holes, here and there, some partly outside the image."""
    number = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    stars = []
    for _ in range(number):
        centre = rng.uniform(-20, max(shape) + 20, 2)
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 40)))
        radius = rng.uniform(3, 90, len(angles))
        ring = centre + np.column_stack([np.cos(angles), np.sin(angles)]) * radius[:, None]
        star = shapely.Polygon(ring).buffer(0)
        stars.append(star.difference(shapely.Point(centre).buffer(2.5)))
    return [part for star in stars for part in shapely.get_parts(star)] or [
        shapely.box(3, 5, 17, 29)
    ]


@st.composite
def masks(draw, shape=SHAPE):
    """Small masks up to the image's size, from empty to full.

    Of odd sizes: no centre of a pixel lies on a border of theirs, where Pillow's floats decide.
    """
    rows, cols = (2 * draw(st.integers(0, side // 2)) + 1 for side in shape)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    mask = rng.random((rows, cols)) < draw(st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))
    mask[: rows // 2, : cols // 3] = draw(st.booleans())
    return mask


def whole_tissue(mask: np.ndarray, shape: Size) -> np.ndarray:
    """The mask stretched over the image by Pillow."""
    image = Image.fromarray(mask.astype(np.uint8)).resize((shape.cols, shape.rows), Image.NEAREST)
    return np.asarray(image) > 0


def whole_roi(polygons, shape: Size) -> np.ndarray:
    """The polygons burnt by GDAL on the whole image at once."""
    return rasterio.features.rasterize(polygons, out_shape=shape).astype(bool)


@st.composite
def windows(draw, shape=SHAPE):
    row, col = draw(st.integers(0, shape.rows - 1)), draw(st.integers(0, shape.cols - 1))
    rows, cols = draw(st.integers(1, shape.rows - row)), draw(st.integers(1, shape.cols - col))
    return Window(row, col, rows, cols)


def full(mask: np.ndarray | None, window: Window) -> np.ndarray:
    return np.ones(window.size, bool) if mask is None else mask


@given(polygons=polygons(), mask=masks(), window=windows())
def test_a_window_shows_what_the_whole_image_shows(polygons, mask, window):
    selection = Selection(TissueMask.of(mask, "auto"), roi_of(polygons))
    found = Chosen(selection, SHAPE).wanted(window, None)
    inside, tissue = whole_roi(polygons, SHAPE), whole_tissue(mask, SHAPE)
    np.testing.assert_array_equal(full(found.inside, window), inside[window.slices])
    np.testing.assert_array_equal(full(found.tissue, window), tissue[window.slices])
    assert found.some(window) == bool((inside & tissue)[window.slices].any())


@given(polygons=polygons(), mask=masks(), tile=st.sampled_from([4, 16, 44]))
def test_a_block_that_is_skipped_holds_nothing_wanted(polygons, mask, tile):
    grid = TileGrid(SHAPE, ReceptiveField(20, 4, 0), Size(tile, tile), Size(1, 2))
    selection = Selection(TissueMask.of(mask, "auto"), roi_of(polygons))
    reasons = skipped_blocks(selection, grid)
    inside, tissue = whole_roi(polygons, SHAPE), whole_tissue(mask, SHAPE)
    for block in grid:
        part = block.write.slices
        assert (block.index in reasons) == (not (inside & tissue)[part].any())
        # One that lies outside is known to be nodata; one without tissue may be so in places.
        if reasons.get(block.index) == "roi":
            assert not inside[part].any()
    assert skipped_blocks(EVERYTHING, grid) == {}


def test_polygons_are_the_same_across_the_lattice_they_are_burnt_on():
    shape = Size(2111, 1307)
    # Edges through the centres of pixels, where rounding decides.
    found = [
        shapely.box(10.5, 900.5, 1200.5, 1500.5),
        shapely.Polygon([(0, 0), (1300, 9), (7, 2100)]),
    ]
    chosen = Chosen(Selection(roi=roi_of(found)), shape)
    whole = chosen.wanted(Window.whole(shape), None).inside
    np.testing.assert_array_equal(whole, whole_roi(found, shape))


def compute(folder, plan) -> tuple[np.ndarray, np.ndarray, dict]:
    """Mask, probabilities and records of a run without its cluster."""
    folder.mkdir(parents=True, exist_ok=True)
    Stores.create(folder, plan, 3)
    worker = BlockWorker(Job(plan, str(folder), infer.versions()))
    try:
        records = [worker.compute(index) for index in range(len(plan.grid))]
    finally:
        worker.close()
    stores = Stores.open(folder, plan)
    window = Window.whole(plan.grid.shape)
    labels = stores.mask.read(window)
    for record in records:
        part = labels[plan.grid.block_at(record.index).write.slices]
        assert dict(record.counts) == {int(v): int((part == v).sum()) for v in np.unique(part)}
    return labels, stores.probabilities.read(window), {r.index: r.skipped for r in records}


@given(polygons=polygons(), mask=masks(), hole=windows(), seed=st.integers(0, 99))
@settings(max_examples=5)
def test_pixels_are_those_of_the_whole_image_for_any_tile(
    tmp_path_factory, model, polygons, mask, hole, seed
):
    folder = tmp_path_factory.mktemp("runs")
    image = noise(*SHAPE, seed=seed).astype(np.float32)
    missing = np.zeros(SHAPE, bool)
    missing[hole.slices] = True
    image[missing] = np.nan
    if missing.all():
        return
    inside = whole_roi(polygons, SHAPE) & ~missing
    tissue = whole_tissue(mask, SHAPE)
    selection = Selection(TissueMask.of(mask, "auto"), roi_of(polygons))
    source = tilseg.open_source(image)
    whole = None
    for tile in reversed(TILES):
        plan = tilseg.make_plan(source, model, tile=tile, threads=1, probabilities=True)
        labels, certain, _ = compute(folder / f"all-{tile}", plan)
        found, sure, _ = compute(folder / f"{tile}", replace(plan, selection=selection))
        np.testing.assert_array_equal(found, np.where(inside, np.where(tissue, labels, 0), 255))
        expected = np.where(tissue[..., None], certain, np.array([255, 0, 0], np.uint8))
        np.testing.assert_array_equal(sure, expected * inside[..., None])
        # The network's own floats differ in the last bit with the shape of the tile.
        best = np.sort(certain.astype(int), axis=2)
        clear = (best[..., -1] - best[..., -2] > 2) | ~inside | ~tissue
        whole = found if whole is None else whole
        np.testing.assert_array_equal(found[clear], whole[clear])


@pytest.mark.parametrize("kind", ["nodata", "alpha"])
def test_what_has_no_data_is_nodata_outside_tissue_too(tmp_path, model, kind):
    image = noise(*SHAPE)
    missing = np.zeros(SHAPE, bool)
    missing[10:70, 5:111] = True
    path = write(tmp_path / "image.tif", image, missing, kind)
    tissue = np.zeros(SHAPE, bool)
    tissue[60:, 100:] = True
    plan = tilseg.make_plan(
        tilseg.open_source(path), model, tile=36, threads=1, bands=(1, 2, 3), probabilities=True
    )
    selection = Selection(TissueMask.of(tissue, "auto"))
    found, _, records = compute(tmp_path / "run", replace(plan, selection=selection))
    labels, _, _ = compute(tmp_path / "all", plan)
    np.testing.assert_array_equal(found, np.where(missing, 255, np.where(tissue, labels, 0)))
    assert set(records.values()) == {"tissue", None}
    assert (labels == 255).sum() == missing.sum() > 0


def test_a_resampled_image_is_selected_on_its_own_grid(tmp_path, model):
    missing = np.zeros(SHAPE, bool)
    missing[90:130, 20:60] = True
    path = write(tmp_path / "image.tif", noise(*SHAPE), missing, "nodata")
    drawn = shapely.Polygon([(10.3, 20.1), (190.2, 5.7), (150.9, 140.8), (30.4, 120.2)])
    annotation = {"type": "Feature", "properties": {"objectType": "annotation"}}
    roi = tmp_path / "roi.geojson"
    roi.write_text(json.dumps({**annotation, "geometry": shapely.geometry.mapping(drawn)}))
    mask = np.random.default_rng(1).random((31, 43)) < 0.6
    (tmp_path / "tissue.png").write_bytes(tissue_png(TissueMask.of(mask, "auto")))
    options = {"resolution": "17m", "threads": 1, "probabilities": True}
    for tile in (28, 64):
        plan = tilseg.make_plan(tilseg.open_source(path), model, tile=tile, **options)
        part = tilseg.make_plan(
            tilseg.open_source(path), model, tile=tile, **options,
            roi=roi, tissue=tmp_path / "tissue.png",
        )  # fmt: skip
        shape = part.grid.shape
        assert shape != SHAPE
        there = shapely.transform(drawn, lambda p: p / 1.7)
        inside, tissue = whole_roi([there], shape), whole_tissue(mask, shape)
        labels, _, _ = compute(tmp_path / f"all-{tile}", plan)
        found, _, _ = compute(tmp_path / f"{tile}", part)
        expected = np.where(inside, np.where(tissue | (labels == 255), labels, 0), 255)
        np.testing.assert_array_equal(found, expected)


def write(path, image, missing, kind):
    """A GeoTIFF in which pixels have no data by their value, or by an alpha band."""
    bands, options = 3, {"nodata": 0}
    image = np.maximum(image, 1)
    image[missing] = 0 if kind == "nodata" else 77
    if kind == "alpha":
        bands, options = 4, {"photometric": "rgb", "alpha": "yes"}
        image = np.dstack([image, np.where(missing, 0, 255).astype(np.uint8)])
    with rasterio.open(
        path, "w", driver="GTiff", height=SHAPE.rows, width=SHAPE.cols, count=bands,
        dtype="uint8", transform=rasterio.Affine(10, 0, 5e5, 0, -10, 5e6), crs="EPSG:32633",
        **options,
    ) as file:  # fmt: skip
        file.write(np.moveaxis(image, 2, 0))
    return path


def test_blocks_without_interest_or_tissue_are_not_read(tmp_path, model, monkeypatch):
    source = tilseg.open_source(noise(*SHAPE))
    plan = tilseg.make_plan(source, model, tile=16, threads=1, probabilities=True)
    tissue = np.zeros(SHAPE, bool)
    tissue[140:, 3] = True
    selection = Selection(TissueMask.of(tissue, "auto"), roi_of([shapely.box(0, 90, 90, 151)]))
    expected = skipped_blocks(selection, plan.grid)
    read = []
    whole = type(source).read
    monkeypatch.setattr(
        type(source), "read", lambda self, w, *rest: read.append(w) or whole(self, w, *rest)
    )
    _, _, records = compute(tmp_path, replace(plan, selection=selection))
    assert {index: reason for index, reason in records.items() if reason} == expected
    assert {"roi", "tissue"} == set(expected.values())
    assert len(read) == len(plan.grid) - len(expected) <= 3
