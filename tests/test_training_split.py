"""Blocks of one scene: what counts in validation is far from what was trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_shapes import shapes

from tilseg.card import Card, ClassInfo, Normalization
from tilseg.errors import InputError, UsageError
from tilseg.models.torch_model import TorchModel
from tilseg.models.unet import build
from tilseg.receptive_field import ReceptiveField
from tilseg.source import open_source
from tilseg.statistics import band_statistics
from tilseg.training.samples import IGNORE, make_sample
from tilseg.training.split import split_blocks
from tilseg.truth.raster import open_raster
from tilseg.window import Size, Window


@given(
    rows=st.integers(1, 400),
    cols=st.integers(1, 400),
    side=st.integers(1, 150),
    halo=st.integers(0, 30),
    stride=st.sampled_from([1, 4, 16]),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 9),
)
def test_blocks_tile_the_image_and_held_out_pixels_are_far(
    rows, cols, side, halo, stride, fraction, seed
):
    shape, field = Size(rows, cols), ReceptiveField(halo, stride, 0)
    try:
        kept, held = split_blocks(shape, side, fraction, [seed], field)
    except UsageError:
        assert side < 2 * halo + stride
        return
    except InputError:
        assert max(rows, cols) < 2 * (side + stride)
        return
    seen = np.zeros((rows, cols), int)
    trained = np.zeros((rows + 2 * halo, cols + 2 * halo), bool)
    for region in (*kept, *held):
        seen[region.window.slices] += 1
        assert region.window.row % stride == region.window.col % stride == 0
        assert region.counted.size.area > 0
    for region in kept:
        assert region.counted == region.window
        trained[halo : rows + halo, halo : cols + halo][region.window.slices] = True
    assert (seen == 1).all()
    assert kept
    assert held
    for region in held:
        window = region.counted
        context = trained[window.row :, window.col :][
            : window.rows + 2 * halo, : window.cols + 2 * halo
        ]
        assert not context.any()


def test_the_same_seed_draws_the_same_blocks_and_another_does_not():
    field = ReceptiveField(5, 4, 0)
    draws = [split_blocks(Size(401, 503), 60, 0.3, [seed], field) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_too_small_a_block_says_what_would_do():
    with pytest.raises(UsageError, match="use 132 or more with this network, whose halo is 44"):
        split_blocks(Size(900, 900), 64, 0.2, [0], ReceptiveField(44, 8, 0))


def test_a_held_out_block_is_predicted_as_in_the_whole_image():
    torch.manual_seed(0)
    parameters = {"bands": 1, "classes": 2, "depth": 2, "width": 4, "norm": "batch"}
    network = build(parameters).double()
    field = network.field
    card = Card(
        name="test",
        architecture="unet",
        parameters=parameters,
        bands=1,
        normalization=Normalization(kind="image"),
        head="softmax",
        classes=(ClassInfo(name="a", color="#000000"), ClassInfo(name="b", color="#ffffff")),
        halo=field.halo,
        stride=field.stride,
        offset=field.offset,
    )
    model = TorchModel(network, card, dtype=torch.float64)
    image, labels = shapes(233, 311, 0)
    source = open_source(image)
    statistics = band_statistics(source, card.normalization, bands=(0,))
    whole = _scores(model, image[..., None], statistics)
    _, held = split_blocks(source.shape, 60, 0.3, [3], field)
    assert len(held) == 4
    for region in held:
        sample = make_sample(
            "a",
            source,
            open_raster(labels, ignore=(255,)),
            statistics=statistics,
            region=region.window,
            counted=region.counted,
        )
        everything = Window.whole(sample.shape)
        found = _scores(model, sample.raw(everything), statistics)
        counted = sample.target(everything) != IGNORE
        inner = region.counted.relative_to(region.window)
        assert counted.sum() == counted[inner.slices].sum() == inner.size.area
        np.testing.assert_allclose(
            found[:, inner.slices[0], inner.slices[1]],
            whole[:, region.counted.slices[0], region.counted.slices[1]],
            atol=1e-12,
        )


def _scores(model, pixels, statistics):
    """Of a whole image, mirrored outward: (classes, rows, cols)."""
    field, (rows, cols, _) = model.field, pixels.shape
    after = (field.input_for(side) - side - field.halo for side in (rows, cols))
    widths = [(field.halo, more) for more in after]
    padded = np.pad(pixels, [*widths, (0, 0)], mode="reflect")
    return model.logits(padded[None], statistics)[0, :, :rows, :cols]
