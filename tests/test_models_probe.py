"""The measured halo catches a wrong declaration, and inexactness is what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contracts.model_contract import card_of, random_network, whole_scores

from tilseg.model import BandStatistics
from tilseg.models.probe import measure_inexactness, measured_halo, tiled_logits
from tilseg.models.torch_model import TorchModel
from tilseg.models.unet import build

STATISTICS = BandStatistics((100.0,), (50.0,))


def make(**parameters):
    parameters = {"bands": 1, "classes": 3, "depth": 2, "width": 3, **parameters}
    network = random_network(build, parameters)
    card = card_of(network, "unet", parameters)
    return network, TorchModel(network, card, dtype=torch.float64, threads=1)


@pytest.mark.parametrize("upsampling", ["transposed", "nearest", "bilinear"])
@pytest.mark.parametrize("convs", [1, 2, 3])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_padded_halos_are_tight(upsampling, convs, depth):
    network, _ = make(padding="same", upsampling=upsampling, convs=convs, depth=depth)
    assert measured_halo(network) == network.field.halo


def test_the_deepest_padded_halo():
    network, _ = make(padding="same", depth=4)
    assert measured_halo(network) == network.field.halo == 96


def test_an_uncropped_edge_is_measured(monkeypatch):
    # Without the crop the interpolation's edge spoils 2^depth - 1 pixels: more than the sizes say.
    monkeypatch.setattr("tilseg.models.unet.up_crop", lambda kind: 0)
    network, _ = make(upsampling="bilinear", depth=3)
    assert network.field.halo == 44
    assert measured_halo(network) == 52


class _WindowNorm(torch.nn.Module):
    def forward(self, x):
        return x - x.mean(dim=(2, 3), keepdim=True)


def test_a_statistic_of_the_window_has_no_halo():
    network, _ = make()
    network.bottleneck.append(_WindowNorm())
    assert measured_halo(network) is None


def test_an_exact_model_measures_as_exact():
    _, model = make()
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 1), dtype=np.uint8)
    found = measure_inexactness(model, image, STATISTICS, (8, 64))
    assert found.score < 1e-12
    assert found.labels == 0


def test_align_corners_is_told():
    parameters = {"bands": 1, "classes": 1, "depth": 2, "width": 3, "padding": "same"}
    parameters["upsampling"] = "bilinear-corners"
    network = random_network(build, parameters)
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 1), dtype=np.uint8)
    with torch.no_grad():  # half of the pixels on either side of the threshold
        network.head.bias -= np.median(whole_scores(network, image, STATISTICS))
    card = card_of(network, "unet", parameters)
    model = TorchModel(network, card, dtype=torch.float64, threads=1)
    found = measure_inexactness(model, image, STATISTICS, (8, 56))
    small, large = (tiled_logits(model, image, STATISTICS, tile) for tile in (8, 56))
    assert found.score == np.abs(small - large).max() > 1e-3
    assert found.labels == ((small > 0) != (large > 0)).mean() > 0
