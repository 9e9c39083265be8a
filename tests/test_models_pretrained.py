"""Weights of other people, under the names they gave them; random ones, nothing is fetched."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from tilseg.errors import ModelError
from tilseg.models.network import make_network
from tilseg.models.pretrained import begin_with

WIDTH = 4
# torchvision's places of the 13 convolutions of vgg16 and of vgg16_bn, and their outputs.
PLACES = {
    False: (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    True: (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40),
}
CHANNELS = [WIDTH * each for each in (1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8)]


def vgg(norm: bool) -> dict[str, torch.Tensor]:
    """A state_dict as torchvision writes it, with fewer channels: 64 became 4, 4096 became 16."""
    torch.manual_seed(1)
    found = {}
    for place, below, above in zip(PLACES[norm], [3, *CHANNELS], CHANNELS, strict=False):
        found[f"features.{place}.weight"] = torch.randn(above, below, 3, 3)
        found[f"features.{place}.bias"] = torch.randn(above)
        if norm:
            for kind in ("weight", "bias", "running_mean", "running_var"):
                found[f"features.{place + 1}.{kind}"] = torch.rand(above) + 0.5
            found[f"features.{place + 1}.num_batches_tracked"] = torch.tensor(9)
    for place, sizes in ((0, (16, 8 * WIDTH * 49)), (3, (16, 16)), (6, (1000, 16))):
        found[f"classifier.{place}.weight"] = torch.randn(sizes)
        found[f"classifier.{place}.bias"] = torch.randn(sizes[0])
    return found


def through(weights: dict[str, torch.Tensor], norm: bool, x: torch.Tensor) -> torch.Tensor:
    """The convolutions of the first two stages and the maximum between, without padding."""
    for index, place in enumerate(PLACES[norm][:4]):
        x = F.conv2d(x, weights[f"features.{place}.weight"], weights[f"features.{place}.bias"])
        if norm:
            mean, var, scale, shift = (
                weights[f"features.{place + 1}.{kind}"]
                for kind in ("running_mean", "running_var", "weight", "bias")
            )
            x = F.batch_norm(x, mean, var, scale, shift)
        x = F.max_pool2d(x.relu(), 2) if index == 1 else x.relu()
    return x


def network(architecture: str, **parameters) -> nn.Module:
    return make_network(architecture, {"bands": 3, "classes": 2, "width": WIDTH, **parameters})


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_fcn_begins_with_vgg16(tmp_path, suffix):
    weights = vgg(norm=False)
    path = tmp_path / f"vgg16.{suffix}"
    write = torch.save if suffix == "pth" else safetensors.torch.save_file
    write(weights, path)
    fcn = network("fcn8s", dense=16).eval()
    assert begin_with(fcn, path) == 2 * 13 + 2 * 2
    pixels = torch.randn(1, 3, 40, 33)
    torch.testing.assert_close(fcn.features[:9](pixels), through(weights, False, pixels))
    coarse = torch.randn(1, 8 * WIDTH, 7, 7)
    dense = F.linear(
        coarse.flatten(1), weights["classifier.0.weight"], weights["classifier.0.bias"]
    )
    torch.testing.assert_close(fcn.fc6(coarse).flatten(1), dense, rtol=1e-4, atol=1e-3)
    dense = F.linear(dense, weights["classifier.3.weight"], weights["classifier.3.bias"])
    torch.testing.assert_close(fcn.fc7(fcn.fc6(coarse)).flatten(1), dense, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("norm", [False, True])
def test_segnet_begins_with_vgg16_with_and_without_batch_norm(tmp_path, norm):
    weights = vgg(norm)
    torch.save(weights, tmp_path / "vgg16.pth")
    segnet = network("segnet").eval()
    assert begin_with(segnet, tmp_path / "vgg16.pth") == 13 * (7 if norm else 2)
    for index, place in enumerate(PLACES[True]):
        found = segnet.features[place].weight
        assert found.equal(weights[f"features.{PLACES[norm][index]}.weight"])
    if norm:
        pixels = torch.randn(1, 3, 40, 33)
        torch.testing.assert_close(segnet.features[:13](pixels), through(weights, True, pixels))
    else:  # what was not there begins anew
        assert all(
            layer.weight.eq(1).all()
            for layer in segnet.features
            if isinstance(layer, nn.BatchNorm2d)
        )


def u2net_names() -> set[str]:
    """The names of the paper's code, model/u2net.py of xuebinqin/U-2-Net."""
    layers = {"1": 7, "2": 6, "3": 5, "4": 4, "5": 4, "6": 4}
    names = {"outconv.weight", "outconv.bias"}
    for stage, count in layers.items():
        names |= {f"side{stage}.weight", f"side{stage}.bias"}
        convs = ["in", *map(str, range(1, count + 1)), *(f"{k}d" for k in range(1, count))]
        for block in (f"stage{stage}", f"stage{stage}d"):
            for conv in convs if block != "stage6d" else []:
                stem = f"{block}.rebnconv{conv}"
                names |= {f"{stem}.conv_s1.{kind}" for kind in ("weight", "bias")}
                names |= {f"{stem}.bn_s1.{kind}" for kind in ("weight", "bias")}
                names |= {f"{stem}.bn_s1.running_{kind}" for kind in ("mean", "var")}
                names |= {f"{stem}.bn_s1.num_batches_tracked"}
    return names


@pytest.mark.parametrize("light", [False, True])
def test_u2net_has_its_authors_names(tmp_path, light):
    parameters = {"bands": 3, "width": 1, "light": light}
    theirs = make_network("u2net", {**parameters, "classes": 1})
    assert set(theirs.state_dict()) == u2net_names()
    torch.save(theirs.state_dict(), tmp_path / "u2net.pth")
    ours = make_network("u2net", {**parameters, "classes": 1})
    assert begin_with(ours, tmp_path / "u2net.pth") == len(u2net_names())
    for one, other in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert one.equal(other)
    # For other classes all but the sides and what joins them.
    more = make_network("u2net", {**parameters, "classes": 3})
    assert begin_with(more, tmp_path / "u2net.pth") == len(u2net_names()) - 14


class _Runs:
    def __reduce__(self):
        return (pytest.fail, ("the file ran code",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"conv1.weight": torch.zeros(4, 3, 7, 7)}, "none of its 1 weights has the name and shape"),
        (vgg(norm=True), "none of its 97 weights"),  # FCN-8s has no batch norm
        ({"features.0.weight": _Runs()}, "might run code"),
        ([torch.zeros(3)], "does not hold a table of tensors"),
        ({"epoch": 3}, "does not hold a table of tensors"),
        (b"<!DOCTYPE html>", "is damaged"),
        (b"", "is damaged"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ModelError) as caught:
        begin_with(network("fcn8s", dense=20), path)
    assert caught.value.id == "E-TRAIN-WEIGHTS"
    assert message in caught.value.message
    assert str(path) in caught.value.message


def test_missing_damaged_and_endless_weights_are_named(tmp_path):
    fcn = network("fcn8s", dense=16)
    with pytest.raises(ModelError, match="can't be read: No such file"):
        begin_with(fcn, tmp_path / "nowhere.safetensors")
    (tmp_path / "short.safetensors").write_bytes(b"\x10\0\0")
    with pytest.raises(ModelError, match="is damaged"):
        begin_with(fcn, tmp_path / "short.safetensors")
    weights = vgg(norm=False)
    weights["features.10.bias"][1] = torch.nan
    torch.save(weights, tmp_path / "vgg.pth")
    with pytest.raises(ModelError, match=r"'features.10.bias' holds NaN") as caught:
        begin_with(fcn, tmp_path / "vgg.pth")
    assert caught.value.id == "E-MODEL-NAN"
