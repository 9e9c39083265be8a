"""What a walk through a network's layers finds, and which layers it does not take."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tilseg.models.walk import receptive_field
from tilseg.receptive_field import ReceptiveField


class Ups(nn.Module):
    """Half the pixels, and back by `F.interpolate`."""

    def __init__(self, **how):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, stride=2, padding=1)
        self.how = how

    def forward(self, x):
        return F.interpolate(self.conv(x), **self.how)


def test_a_stack_of_convolutions_by_hand():
    stack = nn.Sequential(
        nn.Conv2d(1, 1, 5, padding="same"), nn.ReLU(), nn.Conv2d(1, 1, 3, padding=4, dilation=4)
    )
    assert receptive_field(stack, 1) == (ReceptiveField(2 + 4, 1, 0), "")
    assert receptive_field(stack, 4) == (ReceptiveField(8, 4, 0), "")


def test_up_sampling_by_hand():
    # Pixel 0 takes coarse -1 and 0, of which -1 takes -3, -2 and -1; 3 takes 1 and 2: up to 5.
    field, reason = receptive_field(Ups(scale_factor=2, mode="bilinear"), 2)
    assert (field, reason) == (ReceptiveField(4, 2, 0), "")
    corners = Ups(scale_factor=2, mode="bilinear", align_corners=True)
    assert receptive_field(corners, 2)[1] == "bilinear up-sampling with align_corners=True"


def test_what_the_walk_leaves_behind_is_the_network_as_it_was():
    norm = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    receptive_field(norm, 1)
    assert norm.training
    assert all(value.equal(before[name]) for name, value in norm.state_dict().items())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.AvgPool2d(2), "no rule for the reach of"),
        (nn.GroupNorm(1, 1), "no rule for the reach of"),
        (nn.Conv2d(1, 1, 3, padding=(1, 0)), "rows and columns differ"),
        (Ups(size=(4, 4), mode="bilinear"), r"bilinear up-sampling to a size of \(4, 4\)"),
        (Ups(scale_factor=2, mode="nearest"), "nearest up-sampling"),
    ],
)
def test_layers_without_a_rule_are_refused(layer, message):
    with pytest.raises(NotImplementedError, match=message):
        receptive_field(layer, 2)


def test_kernels_that_are_not_square_are_refused():
    with pytest.raises(NotImplementedError, match="rows and columns differ"):
        receptive_field(nn.Conv2d(1, 1, (3, 1), padding=(1, 0)), 2)
    with pytest.raises(NotImplementedError, match="rows and columns differ"):
        receptive_field(nn.Conv2d(1, 1, (3, 5), padding=1), 2)
    assert torch.is_grad_enabled()
