"""The family of networks beside the U-Net: the contract, published sizes, other people's weights."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from contracts.model_contract import ModelContract, random_network

from tilseg.errors import ModelError
from tilseg.model import ARCHITECTURES
from tilseg.models.network import make_network
from tilseg.models.settings import SETTINGS
from tilseg.receptive_field import ReceptiveField

DEEP = {"encoder": "resnet26", "width": 2}


class TestUNetPP(ModelContract):
    architecture = "unetpp"
    parameters: ClassVar = {"bands": 1, "classes": 2, "depth": 3, "width": 3}


class TestUNetPPPadded(ModelContract):
    architecture = "unetpp"
    parameters: ClassVar = {
        "bands": 3,
        "classes": 3,
        "depth": 2,
        "width": 3,
        "padding": "same",
        "norm": "batch",
    }


class TestU2Net(ModelContract):
    architecture = "u2net"
    parameters: ClassVar = {"bands": 2, "classes": 1, "width": 1, "halo": 32}


class TestU2NetP(ModelContract):
    architecture = "u2net"
    parameters: ClassVar = {"bands": 1, "classes": 3, "light": True, "width": 2, "halo": 64}


class TestFCN(ModelContract):
    architecture = "fcn8s"
    parameters: ClassVar = {"bands": 1, "classes": 2, "width": 2, "dense": 8}


class TestSegNet(ModelContract):
    architecture = "segnet"
    parameters: ClassVar = {"bands": 1, "classes": 2, "width": 3}


class TestDeepLab(ModelContract):
    architecture = "deeplabv3plus"
    parameters: ClassVar = {"bands": 2, "classes": 3, **DEEP, "halo": 32}


class TestDeepLabWithoutImagePooling(ModelContract):
    architecture = "deeplabv3plus"
    parameters: ClassVar = {"bands": 1, "classes": 2, **DEEP, "image_pooling": False}


class TestPSPNet(ModelContract):
    architecture = "pspnet"
    parameters: ClassVar = {"bands": 3, "classes": 2, **DEEP, "halo": 32}


class TestHRNet(ModelContract):
    architecture = "hrnet"
    parameters: ClassVar = {"bands": 1, "classes": 2, "size": "small-v1", "width": 2, "stem": 4}


class TestRefineNet(ModelContract):
    architecture = "refinenet"
    parameters: ClassVar = {"bands": 1, "classes": 2, **DEEP, "halo": 64}


def test_every_architecture_has_its_contract():
    tested = {each.architecture for each in ModelContract.__subclasses__()}
    assert tested | {"unet"} == set(ARCHITECTURES)  # the U-Net has a file of its own


def on_meta(architecture: str, **parameters: Any) -> Any:
    with torch.device("meta"):
        return make_network(architecture, parameters)


def numbers(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize(
    ("name", "bands", "classes", "published", "digits"),
    [
        # Zhou et al. 2018, table 1: 9.04 M; the light U2-Net and U2-Net by the authors' code
        # (4.7 and 176.3 MB of float32 with running statistics, Qin et al. 2020, table 2).
        ("unetpp", 3, 1, 9.04e6, 3),
        ("u2netp", 3, 1, 1_131_181, 7),
        ("u2net", 3, 1, 44_009_869, 8),
        ("fcn8s", 3, 21, 134e6, 3),  # Long et al. 2015, table 1
        ("segnet", 3, 20, 29.5e6, 3),  # Paszke et al. 2016, arXiv:1606.02147, table 3
        ("hrnet-small-v1", 3, 19, 1.5e6, 2),  # the authors' table of models
        ("hrnet-small-v2", 3, 19, 3.9e6, 2),
        ("refinenet", 3, 21, 118e6, 3),  # Nekrasov et al. 2018, arXiv:1810.03272, table 1
    ],
)
def test_published_sizes(name, bands, classes, published, digits):
    setting = SETTINGS[name]
    network = on_meta(setting.architecture, bands=bands, classes=classes, **setting.parameters)
    found = numbers(network)
    assert float(f"{found:.{digits - 1}e}") == published


def test_the_encoder_of_segnet_is_what_is_left_of_vgg16():
    # Badrinarayanan et al. 2017: 14.7 million weights instead of 134.
    assert round(numbers(on_meta("segnet", bands=3, classes=11).features) / 1e6, 1) == 14.7


def conv(channels_in: int, channels: int, kernel: int, norm: bool = True) -> int:
    """Weights of a convolution with batch norm, or of one with a bias."""
    return channels_in * channels * kernel**2 + (2 * channels if norm else channels)


def bottlenecks(channels_in: int, inside: int, count: int) -> int:
    """A stage of ResNet-50 or ResNet-101, by the table of He et al. 2016."""
    out = 4 * inside
    first = conv(channels_in, inside, 1) + conv(channels_in, out, 1)
    others = (count - 1) * conv(out, inside, 1)
    return first + others + count * (conv(inside, inside, 3) + conv(inside, out, 1))


def encoder(stem: int, blocks: tuple[int, ...]) -> int:
    widths = (64, 128, 256, 512)
    inputs = (stem, 256, 512, 1024)
    return sum(map(bottlenecks, inputs, widths, blocks))


def test_deeplab_and_pspnet_are_what_their_papers_draw():
    # ResNet-101 by torchvision's own figure: 44,549,160, of which 2,049,000 classify.
    resnet = conv(3, 64, 7) + encoder(64, (3, 4, 23, 3))
    assert resnet == 44_549_160 - 2_049_000
    pyramid = 2 * conv(2048, 256, 1) + 3 * conv(2048, 256, 3) + conv(5 * 256, 256, 1)
    decoder = conv(256, 48, 1) + conv(304, 256, 3) + conv(256, 256, 3) + conv(256, 21, 1, False)
    network = on_meta("deeplabv3plus", bands=3, classes=21)
    assert numbers(network) == resnet + pyramid + decoder == 59_344_309

    stem = conv(3, 64, 3) + conv(64, 64, 3) + conv(64, 128, 3)
    pyramid = 4 * conv(2048, 512, 1)
    heads = conv(4096, 512, 3) + conv(512, 150, 1, False)
    heads += conv(1024, 256, 3) + conv(256, 150, 1, False)
    network = on_meta("pspnet", bands=3, classes=150)
    assert numbers(network) == stem + encoder(128, (3, 4, 6, 3)) + pyramid + heads


def test_fields_worked_out_by_hand():
    # VGG-16 without padding takes 4, 4, 6, 6 and 6 pixels at 1, 1/2, 1/4, 1/8 and 1/16.
    assert on_meta("segnet", bands=1, classes=2).field == ReceptiveField(180, 32, 20)
    # And 6 at 1/32, with 2, 2 and 8 cropped after up-sampling to 1/16, 1/8 and 1.
    assert on_meta("fcn8s", bands=1, classes=2).field == ReceptiveField(214, 32, 20)
    assert on_meta("unetpp", bands=1, classes=2).field == ReceptiveField(92, 16, 12)


def reads(network: Any, beyond: int) -> bool:
    """Whether a kept block of one stride reads anything `beyond` pixels from it.

    Weights are positive and the image is dark, so whatever light is read anywhere shows, however
    little of it comes through.
    """
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.dim() == 4:
                value.fill_(1 / value[0].numel())
            elif not name.endswith("batches_tracked"):
                value.fill_(float(name.endswith(("running_var", "weight"))))
        stride = network.field.stride
        side = -(-(beyond + 1) // stride) * stride + stride
        strip = torch.zeros(1, network.bands, stride, 2 * side + stride, dtype=torch.float64)
        strip[..., : side - beyond] = 1
        strip[..., side + stride + beyond :] = 1
        return bool(network(strip)[..., side : side + stride].any())


@pytest.mark.parametrize(
    ("architecture", "parameters"),
    [
        ("u2net", {"light": True, "width": 1, "halo": 0}),
        ("refinenet", {"encoder": "resnet26", "width": 1}),
        ("deeplabv3plus", {"encoder": "resnet50", "width": 1, "image_pooling": False}),
        ("hrnet", {"width": 1, "stem": 2}),
    ],
)
def test_the_halo_is_as_far_as_the_network_reads(architecture, parameters):
    network = random_network(
        lambda given: make_network(architecture, given), {"bands": 1, "classes": 1, **parameters}
    )
    field = network.field
    assert network.inexact is None
    assert not reads(network, field.halo)
    assert reads(network, field.halo - field.stride)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_named_setting_builds_and_says_whether_it_is_exact(name):
    setting = SETTINGS[name]
    network = on_meta(setting.architecture, bands=3, classes=2, **setting.parameters)
    field = network.field
    rows, cols = field.input_for(1), field.input_for(field.stride + 1)
    found = network.eval()(torch.empty(1, 3, rows, cols, device="meta")).shape[2:]
    assert found in ((rows, cols), (rows - 2 * field.halo, cols - 2 * field.halo))
    assert bool(network.inexact) == ("not exact" in setting.about)


@pytest.mark.parametrize(
    ("architecture", "parameters", "reasons"),
    [
        ("pspnet", {"encoder": "resnet26"}, ["pooling of the whole window"]),
        ("deeplabv3plus", {"encoder": "resnet26"}, ["pooling of the whole window"]),
        ("u2net", {}, ["a halo of 256 pixels where the network reaches 3,296"]),
        ("pspnet", {"halo": 9}, ["pooling of the whole window", "a halo of 16 pixels where"]),
        ("hrnet", {"halo": 5000}, []),
    ],
)
def test_what_makes_a_network_inexact_is_named(architecture, parameters, reasons):
    found = on_meta(architecture, bands=1, classes=2, **parameters).inexact
    assert (found is None) == (not reasons)
    assert all(reason in found for reason in reasons)


@pytest.mark.parametrize(
    ("architecture", "parameters", "message"),
    [
        ("hrnet", {"size": "w48"}, "'size' is 'w48'; use one of small-v1, small-v2"),
        ("pspnet", {"depth": 3}, "there is no parameter 'depth'"),
        ("u2net", {"halo": -1}, "'halo' is -1; use a whole number from 0 to 65536"),
        ("segnot", {}, "it is unknown (did you mean 'segnet'?); known: unet, unetpp, "),
    ],
)
def test_wrong_parameters_are_named(architecture, parameters, message):
    with pytest.raises(ModelError) as caught:
        make_network(architecture, {"bands": 1, "classes": 2, **parameters})
    assert caught.value.id == "E-MODEL-PARAMETERS"
    assert message in caught.value.message


@pytest.mark.parametrize("name", [name for name in SETTINGS if name.endswith("-small")])
def test_a_training_begins_with_scores_that_can_be_learnt_from(name):
    setting = SETTINGS[name]
    torch.manual_seed(0)
    network = make_network(
        setting.architecture, {"bands": 1, "classes": 2, **setting.parameters}
    ).train()
    side = network.field.input_for(1)
    with torch.no_grad():
        scores = network(torch.randn(2, 1, side, side))
    assert 0.05 < scores.std() < 3


def test_one_image_pooled_to_one_pixel_can_be_learnt_from():
    parameters = {"bands": 1, "classes": 2, **DEEP, "halo": 16}
    for architecture in ("deeplabv3plus", "pspnet"):
        network = make_network(architecture, parameters).train()
        network(torch.randn(1, 1, 48, 64)).sum().backward()
        slopes = [weight.grad for weight in network.parameters() if weight.grad is not None]
        assert slopes
        assert all(bool(slope.isfinite().all()) for slope in slopes)
