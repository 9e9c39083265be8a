"""The U-Net: the paper's numbers, its pieces against the library's, and the contract."""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contracts.model_contract import LiveElements, ModelContract, random_network
from hypothesis import given
from hypothesis import strategies as st

from tilseg.errors import ModelError, UsageError
from tilseg.models.blocks import Down, Up, Upsampling, crop_to, fold, halved, unpool
from tilseg.models.parameters import parse
from tilseg.models.unet import UNetConfig, build
from tilseg.receptive_field import ReceptiveField


class TestValid(ModelContract):
    parameters: ClassVar = {"bands": 1, "classes": 2, "depth": 3, "width": 3}


class TestValidBilinearNoSkips(ModelContract):
    parameters: ClassVar = {
        "bands": 2,
        "classes": 3,
        "depth": 2,
        "width": 4,
        "convs": 1,
        "upsampling": "bilinear",
        "skips": False,
    }


class TestValidUnpool(ModelContract):
    parameters: ClassVar = {
        "bands": 1,
        "classes": 2,
        "depth": 2,
        "width": 4,
        "upsampling": "unpool",
    }


class TestValidPixelShuffle(ModelContract):
    parameters: ClassVar = {
        "bands": 1,
        "classes": 2,
        "depth": 2,
        "width": 4,
        "convs": 3,
        "upsampling": "pixelshuffle",
        "norm": "batch",
    }


class TestPadded(ModelContract):
    parameters: ClassVar = {
        "bands": 3,
        "classes": 4,
        "depth": 2,
        "width": 4,
        "padding": "same",
        "norm": "batch",
    }


class TestPaddedBilinear(ModelContract):
    parameters: ClassVar = {
        "bands": 1,
        "classes": 2,
        "depth": 3,
        "width": 3,
        "padding": "same",
        "upsampling": "bilinear",
    }


class TestPaddedBilinearCorners(ModelContract):
    parameters: ClassVar = {
        "bands": 1,
        "classes": 2,
        "depth": 2,
        "width": 4,
        "padding": "same",
        "upsampling": "bilinear-corners",
    }


class TestStridedSigmoid(ModelContract):
    parameters: ClassVar = {
        "bands": 2,
        "classes": 1,
        "depth": 2,
        "width": 4,
        "padding": "same",
        "norm": "batch",
        "downsampling": "stride",
        "upsampling": "nearest",
        "activation": "leaky_relu",
        "dropout": 0.5,
    }


def test_the_paper():
    network = build({"bands": 1, "classes": 2})
    assert sum(weight.numel() for weight in network.parameters()) == 31_030_658
    assert network.field == ReceptiveField(halo=92, stride=16, offset=12)
    assert network.to("meta")(torch.empty(1, 1, 572, 572, device="meta")).shape == (1, 2, 388, 388)


def test_the_papers_step_of_388_is_off_the_lattice():
    network = random_network(build, {"bands": 1, "classes": 2, "width": 2})
    strip = torch.randn(1, 1, 204, 972, dtype=torch.float64)
    with torch.no_grad():
        whole = network(strip)
        shifts = {
            step: (network(strip[..., step : step + 572]) - whole[..., step : step + 388])
            .abs()
            .max()
            for step in (384, 388, 400)
        }
    assert shifts[384] < 1e-12
    assert shifts[400] < 1e-12
    assert shifts[388] > 1e-3
    with pytest.raises(UsageError, match="use 384 or 400"):
        network.field.check_step(388)


@pytest.mark.parametrize("shape", [(570, 572), (572, 574), (571, 572)])
def test_a_size_off_the_lattice_is_refused(shape):
    with pytest.raises(ValueError, match="lattice"):
        build({"bands": 1, "classes": 2, "width": 1})(torch.zeros(1, 1, *shape))


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_batch_norm_folds_into_the_convolutions(padding):
    parameters = {"bands": 2, "classes": 3, "depth": 2, "width": 4, "norm": "batch"}
    network = random_network(build, {**parameters, "padding": padding})
    folded = fold(network)
    assert not [module for module in folded.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    pixels = torch.randn(1, 2, 52, 44, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(folded(pixels), network(pixels), rtol=1e-12, atol=1e-12)


@given(rows=st.integers(1, 5), cols=st.integers(1, 5), seed=st.integers(0, 2**16))
def test_unpooling_is_the_librarys(rows, cols, seed):
    torch.manual_seed(seed)
    fine = torch.randint(-2, 3, (2, 3, 2 * rows, 2 * cols)).float()  # many equal maxima
    coarse, place = Down(3, "max", indices=True)(fine)
    expected, index = F.max_pool2d(fine, 2, return_indices=True)
    torch.testing.assert_close(coarse, expected, rtol=0, atol=0)
    values = torch.randn_like(coarse)
    torch.testing.assert_close(
        unpool(values, place), F.max_unpool2d(values, index, 2), rtol=0, atol=0
    )


def test_rounding_does_not_decide_where_a_flat_maximum_goes():
    flat = torch.full((1, 1, 2, 4), 3.0) + torch.tensor([0, 0, 2e-6, 0]).repeat(2, 1)
    flat[..., 1, 3] += 1e-2
    place = Down(1, "max", indices=True)(flat)[1]
    assert place.tolist() == [[[[0, 3]]]]


@pytest.mark.parametrize("kind", ["bilinear", "bilinear-corners", "nearest"])
def test_interpolation_is_that_of_the_other_order(kind):
    # The 1x1 convolution comes first; after the interpolation it would give the same.
    up = Up(6, 3, kind).double()
    pixels = torch.randn(1, 6, 4, 7, dtype=torch.float64)
    mode = {"mode": "nearest"} if kind == "nearest" else {"mode": "bilinear"}
    if kind != "nearest":
        mode["align_corners"] = kind == "bilinear-corners"
    expected = up.conv(F.interpolate(pixels, scale_factor=2, **mode))
    torch.testing.assert_close(up(pixels, None), expected)


def test_crop_takes_the_middle():
    x = torch.arange(7 * 6).view(1, 1, 7, 6)
    np.testing.assert_array_equal(crop_to(x, torch.empty(1, 1, 3, 2))[0, 0], x[0, 0, 2:5, 2:4])


def test_dropout_only_while_training():
    parameters = {"bands": 1, "classes": 2, "depth": 1, "width": 4, "dropout": 0.5}
    network = build(parameters)
    pixels = torch.randn(1, 1, 32, 32)
    torch.manual_seed(0)
    with torch.no_grad():
        assert not torch.equal(network.train()(pixels), network(pixels))
        assert torch.equal(network.eval()(pixels), network(pixels))


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize(
    "parameters",
    [{"upsampling": kind} for kind in get_args(Upsampling)] + [{"classes": 40}, {"skips": False}],
    ids=lambda parameters: "-".join(map(str, parameters.values())),
)
def test_memory_of_tall_maps_is_told_from_above(parameters, depth):
    network = build({"bands": 1, "classes": 2, "width": 8, "depth": depth, **parameters})
    network = network.eval().double()
    rows, cols = (network.field.input_for(network.field.step_below(n)) for n in (1400, 120))
    with torch.no_grad(), LiveElements() as live:
        network(torch.zeros(1, 1, rows, cols, dtype=torch.float64))
    promised = network.live_elements(rows, cols)
    assert promised / 3 < live.most <= promised + rows * cols


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("upsampling", "skips"), [("transposed", True), ("bilinear", False)])
def test_strips_are_the_whole(monkeypatch, dtype, upsampling, skips):
    parameters = {"bands": 2, "classes": 3, "depth": 2, "width": 8, "skips": skips}
    network = build({**parameters, "upsampling": upsampling, "norm": "batch"}).eval().to(dtype)
    network = network.to(memory_format=torch.channels_last)
    side = network.field.input_for(network.field.step_below(331))
    pixels = torch.randn(1, 2, side, side - network.field.stride).to(dtype)
    lengths = []
    network.decoder[0].register_forward_hook(lambda *given: lengths.append(given[1][0].shape[-2]))
    with torch.no_grad():
        found = network(pixels)
        strips = len(lengths)
        monkeypatch.setattr("tilseg.models.strips.ROWS", 10**6)
        whole = network(pixels)
    assert strips == 3
    assert len(lengths) == 4
    assert sum(lengths[:strips]) == lengths[-1] + (strips - 1) * 4
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-13 if dtype == torch.float64 else 0)


@pytest.mark.parametrize(
    ("gradients", "training", "times"), [(True, False, 1), (False, True, 1), (False, False, 3)]
)
def test_trainings_see_the_whole(gradients, training, times):
    network = build({"bands": 1, "classes": 2, "depth": 1, "width": 4}).train(training)
    called = []
    network.decoder[0].register_forward_hook(lambda *_: called.append(1))
    with torch.set_grad_enabled(gradients):
        network(torch.randn(1, 1, 300, 32))
    assert len(called) == times


def test_what_is_written_down_has_no_strips():
    network = build({"bands": 1, "classes": 2, "depth": 1, "width": 4}).eval()
    with torch.no_grad():
        traced = torch.jit.trace(network, torch.randn(1, 1, 300, 32))
    assert str(traced.inlined_graph).count("aten::cat") == 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"classes": 2}, "parameter 'bands' is missing"),
        ({"bands": 3, "classes": 2, "widht": 8}, "no parameter 'widht' (did you mean 'width'?)"),
        ({"bands": 0, "classes": 2}, "'bands' is 0; use a whole number from 1 to 4096"),
        ({"bands": True, "classes": 2}, "'bands' is True; use a whole number"),
        ({"bands": 3, "classes": 2.0}, "'classes' is 2.0; use a whole number from 1 to 255"),
        ({"bands": 3, "classes": 2, "depth": 9}, "'depth' is 9; use a whole number from 1 to 8"),
        ({"bands": 3, "classes": 2, "skips": "yes"}, "'skips' is 'yes'; use true or false"),
        ({"bands": 3, "classes": 2, "dropout": 1}, "'dropout' is 1; use a number from 0 up to"),
        ({"bands": 3, "classes": 2, "dropout": float("nan")}, "'dropout' is nan"),
        ({"bands": 3, "classes": 2, "norm": "group"}, "'norm' is 'group'; use one of none, batch"),
        ({"bands": 3, "classes": 2, "padding": []}, "'padding' is []; use one of valid, same"),
        (
            {"bands": 3, "classes": 2, "upsampling": "unpool", "downsampling": "stride"},
            "upsampling 'unpool' needs downsampling 'max'",
        ),
    ],
)
def test_wrong_parameters_are_named(parameters, message):
    with pytest.raises(ModelError) as caught:
        build(parameters)
    assert caught.value.id == "E-MODEL-PARAMETERS"
    assert message in caught.value.message


def test_parameters_survive_json():
    config = UNetConfig(bands=3, classes=2, upsampling="nearest", dropout=0.25)
    assert parse(UNetConfig, "unet", asdict(config)) == config


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.uint8])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_maximum_without_gradient_is_the_library_s(dtype, layout):
    x = (torch.randn(2, 5, 34, 46) * 50 + 120).clamp(0, 255).to(dtype)
    if dtype.is_floating_point:
        x[0, 1, 3, 7], x[1, 4, 30, 2], x[0, 0, :6, :6] = torch.nan, torch.inf, -torch.inf
    expected = F.max_pool2d(x.double(), 2).to(dtype)
    found = halved(x.contiguous(memory_format=layout))
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.nan_to_num(7), expected.nan_to_num(7))


def test_the_maximum_has_the_library_s_gradient():
    # Of equal values, which ReLU leaves many of, the library's takes the first.
    down, x = Down(3, "max", indices=False), torch.zeros(1, 3, 6, 10, requires_grad=True)
    down(x)[0].sum().backward()
    assert x.grad is not None
    assert set(x.grad.unique().tolist()) == {0, 1}
