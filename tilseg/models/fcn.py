"""FCN-8s on VGG-16, without padding.

Long, Shelhamer and Darrell 2015, arXiv:1411.4038; weights of the classes come from three depths
and are added. Where the authors' network pads its input by 100 pixels and crops what that
leaves, this one takes no padding at all and gives the pixels that it knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilseg.models import vgg
from tilseg.models.blocks import Network, crop_to, initialise, unsure
from tilseg.models.parameters import parse
from tilseg.receptive_field import compose


@dataclass(frozen=True, slots=True)
class FCNConfig:
    """width: channels of the finest stage. dense: channels of the two layers that were fully
    connected in VGG-16. dropout: after each of these, when training."""

    bands: int
    classes: int
    width: int = 64
    dense: int = 4096
    dropout: float = 0.5


class FCN(Network):
    inexact = None

    def __init__(self, config: FCNConfig) -> None:
        super().__init__()
        self.config = config
        self.bands, self.channels = config.bands, config.classes
        # Up-sampling from 32 to 16 and 8 pixels crops one pixel a side, from 8 to 1 four.
        self.field = compose(vgg.LOST, 6, [0] * 5, [8, 0, 0, 2, 2])
        self.features = vgg.features(config.bands, config.width, norm=False)
        _, _, third, fourth, fifth = vgg.widths(config.width)
        self.fc6 = nn.Conv2d(fifth, config.dense, 7)
        self.fc7 = nn.Conv2d(config.dense, config.dense, 1)
        self.score = nn.Conv2d(config.dense, config.classes, 1)
        self.score_pool4 = nn.Conv2d(fourth, config.classes, 1)
        self.score_pool3 = nn.Conv2d(third, config.classes, 1)
        self.up_score = _upsampling(config.classes, 2)
        self.up_pool4 = _upsampling(config.classes, 2)
        self.up_pool3 = _upsampling(config.classes, 8)
        self.dropout = nn.Dropout2d(config.dropout)
        self.apply(initialise)
        unsure(self.score, self.score_pool4, self.score_pool3)
        for up in (self.up_score, self.up_pool4, self.up_pool3):
            _interpolate_at_first(up)

    def forward(self, x: Tensor) -> Tensor:
        """(n, bands, rows, cols) -> (n, classes, rows - 428, cols - 428)."""
        pooled = []
        for stage in vgg.stages(self.features):
            x = F.max_pool2d(vgg.through(stage, x), 2)
            pooled.append(x)
        x = self.dropout(F.relu(self.fc6(x)))
        x = self.dropout(F.relu(self.fc7(x)))
        x = self.up_score(self.score(x))  # at 1/16
        x = x + crop_to(self.score_pool4(pooled[3]), x)
        x = self.up_pool4(x)  # at 1/8
        x = x + crop_to(self.score_pool3(pooled[2]), x)
        scores: Tensor = self.up_pool3(x)
        return scores

    def live_elements(self, rows: int, cols: int) -> int:
        # A convolution of the finest stage, its input and its output; or, at 1/32, the two
        # dense layers; the scores come last, when all else is gone.
        finest, dense = 2 * self.config.width + self.config.bands, 2 * self.config.dense // 1024
        return (finest + dense + 2 * self.config.classes) * rows * cols


def _upsampling(channels: int, factor: int) -> nn.ConvTranspose2d:
    """To `factor` times the pixels, without the half coarse pixel at each edge that has one
    neighbour only."""
    return nn.ConvTranspose2d(channels, channels, 2 * factor, factor, padding=factor, bias=False)


def _interpolate_at_first(up: nn.ConvTranspose2d) -> None:
    """Set the weights to bilinear interpolation, class by class, from which it learns on."""
    if up.weight.is_meta:
        return
    factor = up.stride[0]
    ramp = 1 - (torch.arange(2 * factor) - factor + 0.5).abs() / factor
    with torch.no_grad():
        up.weight.zero_()
        for channel in range(len(up.weight)):
            up.weight[channel, channel] = torch.outer(ramp, ramp)


def build(parameters: dict[str, Any]) -> FCN:
    """The network of a card's `parameters`, see `FCNConfig`, with random weights.

    Raises ModelError E-MODEL-PARAMETERS.
    """
    return FCN(parse(FCNConfig, "fcn8s", parameters))
