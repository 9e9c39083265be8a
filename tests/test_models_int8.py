"""The U-Net in integers against the U-Net in floats, and that no tile shows in it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contracts.model_contract import card_of, random_network, whole_scores
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import noise
from torch import nn

from tilseg.errors import ModelError, ResourceError
from tilseg.model import BandStatistics
from tilseg.models import int8
from tilseg.models.blocks import fold
from tilseg.models.network import load, precisions, save_model
from tilseg.models.probe import tiled_logits
from tilseg.models.torch_model import TorchModel
from tilseg.models.unet import build
from tilseg.models.unetpp import build as build_nested

needs_vnni = pytest.mark.skipif(not int8.here(), reason="this processor has no AVX-512 VNNI")
STATISTICS = BandStatistics((120.0, 90.0), (70.0, -60.0))
PARAMETERS = {"bands": 2, "classes": 3, "depth": 2, "width": 8, "norm": "batch"}


def model_of(parameters=PARAMETERS, seed=0, ranges=(), tta="none"):
    network = random_network(build, parameters, seed)
    card = card_of(network, "unet", parameters)
    prepared = lambda folded: int8.prepared(folded, ranges)  # noqa: E731
    return TorchModel(network, card, threads=1, tta=tta, prepared=prepared)


def observed(image, parameters=PARAMETERS, seed=0):
    """Scores of the whole image from the network that finds the ranges, and the ranges."""
    model = model_of(parameters, seed)
    return whole(model, image), model.network.ranges


def whole(model, image):
    return tiled_logits(model, image, STATISTICS, model.field.step_covering(max(image.shape)))


@settings(max_examples=15, deadline=None)
@given(
    depth=st.integers(1, 3),
    width=st.integers(1, 5),
    convs=st.integers(1, 3),
    classes=st.integers(1, 4),
    norm=st.sampled_from(["none", "batch"]),
    seed=st.integers(0, 99),
)
def test_before_there_are_ranges_it_is_the_network(depth, width, convs, classes, norm, seed):
    parameters = {**PARAMETERS, "depth": depth, "width": width, "convs": convs}
    parameters |= {"classes": classes, "norm": norm}
    image = noise(37, 29, bands=2, seed=seed)
    expected = whole_scores(random_network(build, parameters, seed), image, STATISTICS)
    found, ranges = observed(image, parameters, seed)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert len(ranges) == 2 + (2 * depth + 1) * convs + depth


def test_ranges_are_those_of_the_network_s_own_layers():
    network = random_network(build, PARAMETERS)
    folded = fold(network).float()
    x = torch.randn(1, 2, *(network.field.input_for(4 * k) for k in (9, 11)))
    seen = {}

    def see(module, _, out):
        seen[module] = (min(0.0, out.min().item()), out.max().item())

    for module in folded.modules():
        if isinstance(module, nn.ReLU | nn.ConvTranspose2d):
            module.register_forward_hook(see)
    observer = int8.Observer(fold(network))
    with torch.inference_mode():
        folded(x)
        observer(x[..., :60, :60])
        observer(x)
    inputs = [(band.min().item(), band.max().item()) for band in x[0]]
    # Hooks are called in the order in which the layers are.
    expected = [*inputs, *seen.values()]
    np.testing.assert_allclose(observer.ranges, expected, atol=1e-4)


@needs_vnni
@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(1, 61),
    cols=st.integers(1, 61),
    steps=st.integers(1, 5),
    width=st.sampled_from([3, 8, 16]),
    seed=st.integers(0, 99),
)
def test_no_tile_shows(rows, cols, steps, width, seed):
    parameters = {**PARAMETERS, "width": width}
    image = noise(rows, cols, bands=2, seed=seed)
    _, ranges = observed(image, parameters, seed)
    model = model_of(parameters, seed, ranges)
    found = tiled_logits(model, image, STATISTICS, steps * model.field.stride)
    assert found.tobytes() == whole(model, image).tobytes()


@needs_vnni
def test_what_is_not_finite_is_told():
    image = noise(44, 52, bands=2).astype(np.float32)[None]
    finder = model_of()
    finder.predict(image, STATISTICS)
    model = model_of(ranges=finder.network.ranges)
    two = np.concatenate([image, image])
    two[1, 20, 30, 1] = np.nan
    found = model.predict(two, STATISTICS)
    assert found.finite.tolist() == [True, False]
    alone = model.predict(image, STATISTICS)
    assert (found.labels.shape, alone.labels.tobytes()) == ((2, 4, 12), found.labels[0].tobytes())


def test_nothing_is_learnt_of_what_overflows():
    image = noise(44, 52, bands=2).astype(np.float32)[None]
    finder, other = model_of(), model_of()
    finder.predict(image, STATISTICS)
    for value in (np.inf, -np.inf, np.nan):
        bad = image.copy()
        bad[0, 20, 30, 1] = value
        other.predict(bad, STATISTICS)
    assert other.network.ranges == ()
    other.predict(image, STATISTICS)
    assert other.network.ranges == finder.network.ranges


@needs_vnni
def test_no_tile_shows_in_the_mean_of_all_positions():
    image = noise(31, 45, bands=2)
    finder = model_of(tta="d4")
    whole(finder, image)
    model = model_of(ranges=finder.network.ranges, tta="d4")
    found = tiled_logits(model, image, STATISTICS, 12)
    # Probabilities are averaged in float32, whose logarithms may differ in the last bit.
    np.testing.assert_allclose(found, whole(model, image), atol=1e-5)


def rounded(x, least, largest):
    """`x` at 256 levels between two values."""
    unit = (largest - least) / 255 or 1.0
    return ((x - least) / unit + 0.5).floor().clamp(0, 255) * unit + least


def rounded_scores(network, ranges, x):
    """Scores in float64 of the folded network itself, its weights and maps rounded to 8 bits."""
    network, order = fold(network), []
    maps = [m for m in network.modules() if isinstance(m, nn.ReLU | nn.ConvTranspose2d)]
    hooks = [each.register_forward_hook(lambda m, *_: order.append(m)) for each in maps]
    network(x)
    for hook in hooks:
        hook.remove()
    for each, known in zip(order, ranges[network.bands :], strict=True):
        each.register_forward_hook(lambda m, i, out, known=known: rounded(out, *known))
    for each in network.modules():
        if isinstance(each, nn.Conv2d | nn.ConvTranspose2d):
            others = (1, 2, 3) if isinstance(each, nn.Conv2d) else (0, 2, 3)
            unit = each.weight.abs().amax(others, keepdim=True).clamp_min(1e-30) / 127
            each.weight.copy_((each.weight / unit).round() * unit)
    bands = [rounded(band, *known) for band, known in zip(x[0], ranges, strict=False)]
    return network(torch.stack(bands)[None])


def extreme(network):
    """A network that grows by 1000 in one layer and shrinks in the next, and has a dead map."""
    first, second = (network.encoder[0][index] for index in (1, 4))
    first.weight *= 1000
    first.bias *= 1000
    second.running_mean *= 1000
    second.running_var *= 1000**2
    network.encoder[1][4].weight.zero_()
    network.encoder[1][4].bias.fill_(-1)
    return network


@needs_vnni
@pytest.mark.parametrize(
    ("change", "parameters"),
    [
        (lambda network: network, {"width": 16}),
        (lambda network: network, {"norm": "none", "convs": 1}),
        (lambda network: network, {"depth": 3, "classes": 1}),
        (extreme, {"width": 16}),
    ],
)
@torch.inference_mode()
def test_it_loses_what_8_bits_must_lose(change, parameters):
    parameters = {**PARAMETERS, **parameters}
    network = change(random_network(build, parameters))
    x = torch.randn(1, 2, *(network.field.input_for(8 * k) for k in (9, 11)))
    x[0, 1] = 0.4  # a band that is constant
    observer = int8.Observer(fold(network))
    scores = observer(x)
    error = int8.Int8UNet(fold(network), observer.ranges)(x) - scores
    inherent = rounded_scores(network, observer.ranges, x.double()) - scores
    assert 0 < error.std() < 1.5 * inherent.std()
    assert inherent.std() < 0.2 * scores.std()


@pytest.fixture
def file(tmp_path):
    network = random_network(build, PARAMETERS).float()
    save_model(network, card_of(network, "unet", PARAMETERS), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@needs_vnni
def test_a_file_is_loaded_in_integers(file):
    image = noise(64, 64, bands=2)
    finder = load(file, device="cpu", precision="int8", threads=1)
    finder.predict(image[None, :52, :52], STATISTICS)
    model = load(file, device="cpu", precision="int8", threads=1, ranges=finder.network.ranges)
    assert isinstance(model.network, int8.Int8UNet)
    assert precisions(file, "cpu") == ("fp32", "bf16", "int8")


def test_other_processors_are_refused(file, monkeypatch):
    monkeypatch.setattr(int8, "here", lambda: False)
    with pytest.raises(ResourceError, match="--precision int8 needs an x86 CPU with AVX-512 VNNI"):
        load(file, device="cpu", precision="int8")
    assert precisions(file, "cpu") == ("fp32", "bf16")
    assert load(file, device="cpu", precision="bf16").threads


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"padding": "same"}, "padding is 'same' instead of 'valid'"),
        ({"upsampling": "bilinear"}, "upsampling is 'bilinear' instead of 'transposed'"),
        ({"skips": False}, "skips is False instead of True"),
        ({"activation": "leaky_relu"}, "activation is 'leaky_relu' instead of 'relu'"),
    ],
)
def test_other_networks_are_refused(tmp_path, change, reason):
    parameters = {**PARAMETERS, **change}
    network = random_network(build, parameters).float()
    save_model(network, card_of(network, "unet", parameters), tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=f"{reason}; use --precision bf16"):
        load(tmp_path / "a.safetensors", device="cpu", precision="int8")
    assert precisions(tmp_path / "a.safetensors", "cpu") == ("fp32", "bf16")


def test_other_architectures_are_refused():
    network = random_network(build_nested, {"bands": 1, "classes": 2, "depth": 1, "width": 2})
    assert int8.why_not(network) == "only the architecture 'unet' can be"
