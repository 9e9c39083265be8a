"""Tiled equals whole on a resampled image, each tile reading what it needs of the image itself."""

from __future__ import annotations

import numpy as np
import torch
from contracts.model_contract import assert_equal_scores, card_of, random_network, whole_scores
from hypothesis import given, settings
from hypothesis import strategies as st

from tilseg.georef import Factors
from tilseg.model import BandStatistics
from tilseg.models.torch_model import TorchModel
from tilseg.models.unet import build
from tilseg.plan import TileGrid
from tilseg.resample import grid_length, resample, taps
from tilseg.source import open_source
from tilseg.sources.resampled import on_grid
from tilseg.window import Size, Window, read_mirrored

NETWORK = {"bands": 2, "classes": 2, "depth": 2, "width": 2, "padding": "valid"}
STATISTICS = BandStatistics((100.0, 90.0), (60.0, -40.0))
factors = st.floats(0.3, 3.0)


def tiled_scores(model, source, tile: Size, per_block: Size) -> np.ndarray:
    """Scores block by block, as a run computes them: read, cut into tiles, predict, crop."""
    grid = TileGrid(source.shape, model.field, tile, per_block)
    found = np.full((2, *source.shape), np.nan)
    for block in grid:
        pixels = read_mirrored(source.read, block.read, source.shape)
        for part in block.tiles:
            inputs = pixels[part.read.relative_to(block.read).slices]
            scores = model.logits(inputs[np.newaxis], STATISTICS)[0]
            rows, cols = part.write.size
            found[(slice(None), *part.write.slices)] = scores[:, :rows, :cols]
    return found


@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 97), st.integers(1, 83)),
    scale=st.tuples(factors, factors),
    tile=st.tuples(st.integers(2, 12), st.integers(2, 12)),
    per_block=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dtype=st.sampled_from([np.uint8, np.float32]),
    seed=st.integers(0, 2**16),
)
def test_tiled_is_whole_on_any_grid(shape, scale, tile, per_block, dtype, seed):
    network = random_network(build, NETWORK, seed)
    model = TorchModel(network, card_of(network, "unet", NETWORK), dtype=torch.float64, threads=1)
    image = np.random.default_rng(seed).integers(0, 250, (*shape, 2)).astype(dtype)
    source = on_grid(open_source(image), Factors(*scale))
    stride = network.field.stride
    found = tiled_scores(model, source, Size(*(stride * side for side in tile)), Size(*per_block))
    length = [grid_length(side, factor) for side, factor in zip(shape, scale, strict=True)]
    assert source.shape == tuple(length)
    along = [taps(0, *each) for each in zip(length, shape, scale, strict=True)]
    pixels = resample(image, *along)
    pixels = (np.rint(pixels) if dtype == np.uint8 else pixels).astype(dtype)
    assert_equal_scores(found, whole_scores(network, pixels, STATISTICS))


def test_nearly_the_same_grid_is_not_the_same_pixels():
    # What the test above would not see, were resampling to do nothing.
    image = np.random.default_rng(0).integers(0, 250, (50, 60, 2), np.uint8)
    source = on_grid(open_source(image), Factors(1.03, 0.97))
    both = Window(0, 0, 40, 50)
    assert (source.read(both) != open_source(image).read(both)).mean() > 0.5
