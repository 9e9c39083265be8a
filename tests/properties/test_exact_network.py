"""Tiled equals whole, for any image, tile and U-Net that claims it."""

from __future__ import annotations

import numpy as np
import torch
from contracts.model_contract import assert_equal_scores, card_of, random_network, whole_scores
from hypothesis import given, settings
from hypothesis import strategies as st

from tilseg.model import BandStatistics
from tilseg.models.probe import tiled_logits
from tilseg.models.torch_model import TorchModel
from tilseg.models.unet import build

# 1x1, lines, primes, smaller than any halo, just over and just under a tile
sides = st.sampled_from([1, 2, 3, 5, 7, 13, 15, 16, 17, 31, 33, 37, 41])


@st.composite
def networks(draw):
    upsampling = draw(
        st.sampled_from(["transposed", "nearest", "bilinear", "pixelshuffle", "unpool"])
    )
    return {
        "bands": draw(st.integers(1, 2)),
        "classes": draw(st.integers(1, 3)),
        "depth": draw(st.sampled_from([1, 2, 3, 3, 4])),
        "width": draw(st.integers(2, 3)),
        "convs": draw(st.integers(1, 2)),
        "padding": draw(st.sampled_from(["valid", "same"])),
        "upsampling": upsampling,
        "downsampling": draw(
            st.sampled_from(["max", "max" if upsampling == "unpool" else "stride"])
        ),
        "norm": draw(st.sampled_from(["none", "batch"])),
        "activation": draw(st.sampled_from(["relu", "leaky_relu"])),
        "skips": draw(st.booleans()),
    }


@settings(max_examples=40)
@given(
    parameters=networks(),
    rows=sides,
    cols=sides,
    grey_levels=st.sampled_from([1, 2, 256]),  # flat areas: maxima that tie
    steps=st.integers(1, 2),
    seed=st.integers(0, 2**16),
)
def test_tiled_is_whole(parameters, rows, cols, grey_levels, steps, seed):
    network = random_network(build, parameters, seed)
    card = card_of(network, "unet", parameters)
    model = TorchModel(network, card, dtype=torch.float64, threads=1)
    image = np.random.default_rng(seed).integers(
        0, grey_levels, (rows, cols, network.bands), np.uint8
    )
    statistics = BandStatistics(
        (grey_levels / 2, 3.0)[: network.bands], (grey_levels / 4, -5.0)[: network.bands]
    )
    # 41 x 41 tiles of 2 pixels would take long.
    tile = network.field.step_covering(max(steps * network.field.stride, 6))
    found = tiled_logits(model, image, statistics, tile)
    assert_equal_scores(found, whole_scores(network, image, statistics))
