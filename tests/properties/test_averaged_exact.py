"""Averaged over flips and turns, tiled equals whole: the mirrored whole image turned, predicted,
turned back and averaged, by numpy and scipy alone."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from contracts.model_contract import LiveElements, card_of, random_network
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, softmax

from tilseg.model import BandStatistics
from tilseg.models.network import make_network
from tilseg.models.probe import tiled_logits
from tilseg.models.symmetries import turned, turned_back
from tilseg.models.torch_model import TorchModel
from tilseg.window import Size

# Each of another geometry: valid and padded, odd losses, strides that overlap, places of maxima.
NETWORKS = {
    "unet": {"depth": 2, "width": 2},
    "unet padded": {"depth": 2, "width": 2, "padding": "same", "upsampling": "bilinear"},
    "unet deep": {"depth": 3, "width": 2, "convs": 1, "upsampling": "unpool"},
    "unetpp": {"depth": 2, "width": 2, "padding": "same"},
    "fcn8s": {"width": 1, "dense": 2},
    "segnet": {"width": 1},
    "deeplabv3plus": {"encoder": "resnet26", "width": 2, "image_pooling": False},
}
SMALL = ["unet", "unet padded", "unet deep", "unetpp"]
STATISTICS = BandStatistics((100.0, 90.0), (50.0, -40.0))


def _turns(array):
    """The eight symmetries of (..., rows, cols), and what turns each back, by numpy."""
    for quarters in range(4):
        plain = np.rot90(array, quarters, (-2, -1))
        yield plain, lambda x, k=quarters: np.rot90(x, -k, (-2, -1))
        yield np.flip(plain, -2), lambda x, k=quarters: np.rot90(np.flip(x, -2), -k, (-2, -1))


def _mean_of_whole(network, image):
    """(classes, rows, cols): mean probabilities of the whole image; of one channel, of it alone."""
    field = network.field
    normal = (image.astype(np.float64) - STATISTICS.mean) / STATISTICS.std
    pads = [(field.halo, field.input_for(n) - n - field.halo) for n in image.shape[:2]]
    padded = np.pad(normal, [*pads, (0, 0)], mode="reflect").transpose(2, 0, 1)
    total = 0
    for each, back in _turns(padded):
        with torch.no_grad():
            scores = network(torch.from_numpy(each[np.newaxis].copy()))[0].numpy()
        crops = [
            (found + 2 * field.halo - length) // 2
            for found, length in zip(scores.shape[1:], each.shape[1:], strict=True)
        ]
        rows, cols = (length - 2 * field.halo for length in each.shape[1:])
        kept = back(scores[:, crops[0] : crops[0] + rows, crops[1] : crops[1] + cols])
        total = total + _certain(kept)
    return (total / 8)[:, : image.shape[0], : image.shape[1]]


def _certain(scores):
    return softmax(scores, axis=0) if len(scores) > 1 else expit(scores)


@functools.cache
def _network(name, classes):
    architecture = name.split()[0]
    parameters = {"bands": 2, "classes": classes, **NETWORKS[name]}
    network = random_network(functools.partial(make_network, architecture), parameters)
    with torch.no_grad():  # probabilities that are not all 0 or 1
        side = network.field.input_for(4 * network.field.stride)
        spread = network(torch.randn(1, 2, side, side, dtype=torch.float64)).std()
        last = [each for each in network.modules() if isinstance(each, torch.nn.Conv2d)][-1]
        last.weight /= spread
        last.bias /= spread
    return network, card_of(network, architecture, parameters)


def _check(name, classes, shape, tile, seed):
    network, card = _network(name, classes)
    assert network.inexact is None
    model = TorchModel(network, card, dtype=torch.float64, threads=1, tta="d4")
    image = np.random.default_rng(seed).integers(0, 256, (*shape, 2), dtype=np.uint8)
    found = _certain(tiled_logits(model, image, STATISTICS, tile))
    expected = _mean_of_whole(network, image)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


sides = st.sampled_from([1, 2, 3, 5, 7, 13, 17, 23, 31, 37])


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(SMALL),
    classes=st.integers(1, 3),
    rows=sides,
    cols=sides,
    steps=st.integers(1, 3),
    seed=st.integers(0, 2**16),
)
def test_averaged_in_tiles_is_averaged_whole(name, classes, rows, cols, steps, seed):
    stride = _network(name, classes)[0].field.stride
    _check(name, classes, (rows, cols), stride * max(steps, 8 // stride), seed)


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - set(SMALL)))
def test_of_other_architectures_too(name):
    stride = _network(name, 2)[0].field.stride
    _check(name, 2, (7, stride + 5), stride, 0)


@given(rows=st.integers(1, 5), cols=st.integers(1, 5), symmetry=st.integers(0, 7))
def test_turned_back_is_what_it_was(rows, cols, symmetry):
    x = torch.arange(2 * rows * cols).reshape(2, rows, cols)
    assert turned_back(turned(x, symmetry), symmetry).equal(x)


def test_the_eight_positions_are_those_of_the_square():
    x = torch.arange(6).reshape(1, 2, 3)
    ours = {
        (each.shape, each.contiguous().numpy().tobytes()) for each in map(turned, [x] * 8, range(8))
    }
    numpys = {(torch.Size(each.shape), each.tobytes()) for each, _ in _turns(x.numpy())}
    assert ours == numpys
    assert len(ours) == 8


def test_an_image_that_ends_on_the_lattice_may_be_turned_itself():
    # Then the cells of the turned image are the turned cells, and so is the answer.
    network, card = _network("unet", 3)
    model = TorchModel(network, card, dtype=torch.float64, threads=1, tta="d4")
    plain = TorchModel(network, card, dtype=torch.float64, threads=1)
    field = network.field
    rows, cols = (field.output_of(field.input_for(at)) for at in (17, 29))
    image = np.random.default_rng(1).integers(0, 256, (rows, cols, 2), dtype=np.uint8)
    quarter = np.ascontiguousarray(np.rot90(image))
    for each, equal in ((model, True), (plain, False)):
        upright = tiled_logits(each, image, STATISTICS, field.stride)
        turned_image = tiled_logits(each, quarter, STATISTICS, 2 * field.stride)
        difference = np.abs(np.rot90(upright, axes=(1, 2)) - turned_image).max()
        assert (difference < 1e-10) == equal


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_in_one_position_is_not_hidden_by_the_others(classes, bad):
    network, card = _network("unet", classes)
    model = TorchModel(network, card, threads=1, tta="d4")
    side = network.field.input_for(4)
    batch = np.random.default_rng(0).normal(100, 50, (2, side, side, 2)).astype(np.float32)
    batch[1, side // 2, side // 2, 0] = bad
    assert model.predict(batch, STATISTICS).finite.tolist() == [True, False]


def test_classes_far_behind_keep_a_finite_score():
    # Their probability is 0 in float32.
    network, card = _network("unet", 2)
    model = TorchModel(network, card, threads=1, tta="d4")
    side = network.field.input_for(8)
    batch = np.full((1, side, side, 2), 1e5, np.float32)
    logits = model.logits(batch, STATISTICS)
    assert np.isfinite(logits).all()
    assert logits.min() < -104


def test_the_memory_it_takes_more_is_told_from_above():
    network, card = _network("unet", 3)
    most, told = {}, {}
    rows, cols = (network.field.input_for(at) for at in (33, 70))
    for tta in ("none", "d4"):
        model = TorchModel(network, card, dtype=torch.float64, threads=1, tta=tta)
        with LiveElements() as live:
            model.logits(np.zeros((1, rows, cols, 2), np.uint8), STATISTICS)
        most[tta] = 8 * live.most
        told[tta] = model.working_bytes(Size(rows, cols))
    assert 0 < most["d4"] - most["none"] <= told["d4"] - told["none"]
