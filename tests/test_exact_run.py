"""The mask does not depend on how the image was cut, nor on who computed it when."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from tiny import noise, save_tiny_model

import tilseg
from tilseg import infer
from tilseg.infer import BlockWorker, Job
from tilseg.models.torch_model import TorchModel
from tilseg.sinks.zarr import MaskStore
from tilseg.stores import Stores
from tilseg.window import Window, read_mirrored

# Prime, narrow, smaller than the halo of 20, one pixel; nodata in the last.
IMAGES = [(211, 307), (1, 401), (397, 3), (13, 17), (1, 1)]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    return str(save_tiny_model(path, classes=3))


def _mask(image, model, output, *, tile, **options) -> np.ndarray:
    source = tilseg.open_source(image)
    network = tilseg.load_model(model, threads=1)
    plan = tilseg.make_plan(source, network, tile=tile, threads=1)
    tilseg.run(plan, output, outputs=("zarr",), **options)
    store = MaskStore.open(output / "mask.zarr")
    return store.read(Window.whole(store.shape))


def _margin(image, model) -> np.ndarray:
    """Distance of the two best classes, from the whole image at once."""
    source = tilseg.open_source(image)
    network = tilseg.load_model(model, threads=1)
    assert isinstance(network, TorchModel)
    plan = tilseg.make_plan(source, network, tile=4096, threads=1)
    (block,) = plan.grid
    piece = read_mirrored(lambda w: source.read(w, 0, plan.bands), block.read, plan.grid.shape)
    scores = network.logits(piece[None], plan.statistics)[0][:, : image.shape[0], : image.shape[1]]
    best = np.sort(scores, axis=0)
    return best[-1] - best[-2]


@pytest.mark.parametrize("shape", IMAGES)
def test_tiled_is_whole(tmp_path, model, shape):
    image = noise(*shape)
    whole = _mask(image, model, tmp_path / "whole.tilseg", tile=4096)
    certain = _margin(image, model) > 1e-4
    assert certain.mean() > 0.95 or image.size < 100
    for tile in (4, 36, 64):
        if max(shape) > 60 * tile:
            continue
        tiled = _mask(image, model, tmp_path / f"{tile}.tilseg", tile=tile)
        np.testing.assert_array_equal(tiled[certain], whole[certain])


@pytest.mark.parametrize("lanes", [2, 3, 7])
def test_labels_do_not_depend_on_the_lanes(tmp_path, model, lanes):
    source = tilseg.open_source(noise(211, 307))
    plan = tilseg.make_plan(source, tilseg.load_model(model, threads=1), threads=1, tile=32)
    masks = []
    for count in (1, lanes):
        output = tmp_path / f"{count}.tilseg"
        tilseg.run(replace(plan, lanes=count), output, outputs=("zarr",))
        masks.append(MaskStore.open(output / "mask.zarr").read(Window(0, 0, 211, 307)))
    np.testing.assert_array_equal(*masks)


def test_labels_do_not_depend_on_the_order(tmp_path, model):
    image = noise(211, 307)
    source = tilseg.open_source(image)
    network = tilseg.load_model(model, threads=1)
    plan = tilseg.make_plan(source, network, tile=32, threads=1)
    crcs = []
    for seed in range(4):
        folder = tmp_path / str(seed)
        Stores.create(folder, plan, classes=3)
        worker = BlockWorker(Job(plan, str(folder), infer.versions()))
        order = list(range(len(plan.grid)))
        random.Random(seed).shuffle(order)
        records = [worker.compute(index) for index in order]
        crcs.append({record.index: record.crcs for record in records})
    assert all(each == crcs[0] for each in crcs)
    assert len(crcs[0]) == len(plan.grid) > 8


def test_nodata_is_nodata_for_any_tile(tmp_path, model):
    image = noise(151, 203).astype(np.float32)
    hole = np.zeros(image.shape[:2], bool)
    hole[40:110, 30:70] = True
    hole[0, 0] = True
    image[hole] = np.nan
    masks = [_mask(image, model, tmp_path / f"{t}.tilseg", tile=t) for t in (16, 32, 4096)]
    for mask in masks:
        np.testing.assert_array_equal(mask == 255, hole)
    # A block without data is not computed, and a neutral ground stands in for it.
    np.testing.assert_array_equal(masks[0], masks[1])
