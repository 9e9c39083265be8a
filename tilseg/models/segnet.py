"""SegNet, without padding: the encoder of VGG-16 and its mirror image, which puts each value
back where the maximum came from.

Badrinarayanan, Kendall and Cipolla 2017, arXiv:1511.00561.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from tilseg.models import vgg
from tilseg.models.blocks import Network, crop_to, initialise, place_of_maximum, unpool
from tilseg.models.parameters import parse
from tilseg.receptive_field import compose


@dataclass(frozen=True, slots=True)
class SegNetConfig:
    """width: channels of the finest stage."""

    bands: int
    classes: int
    width: int = 64


class SegNet(Network):
    inexact = None

    def __init__(self, config: SegNetConfig) -> None:
        super().__init__()
        self.config = config
        self.bands, self.channels = config.bands, config.classes
        self.field = compose(vgg.LOST, 0, vgg.LOST, [0] * 5)
        self.features = vgg.features(config.bands, config.width, norm=True)
        wide = vgg.widths(config.width)
        # Coarsest first; the last convolution of each leads on to the next.
        self.decoder = nn.ModuleList(
            _decoder_stage(vgg.STAGES[level], wide[level], wide[max(0, level - 1)], level == 0)
            for level in reversed(range(5))
        )
        self.head = nn.Conv2d(config.width, config.classes, 3)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(n, bands, rows, cols) -> (n, classes, rows - 360, cols - 360)."""
        places = []
        for stage in vgg.stages(self.features):
            fine = vgg.through(stage, x)
            x = F.max_pool2d(fine, 2)
            places.append(place_of_maximum(fine, x))
        del fine
        for convs in self.decoder:
            x = convs(unpool(x, crop_to(places.pop(), x)))
        scores: Tensor = self.head(x)
        return scores

    def live_elements(self, rows: int, cols: int) -> int:
        # A convolution of the finest stage, its input and its output, and the places of the
        # maxima, a byte each.
        return 3 * self.config.width * rows * cols


def _decoder_stage(convs: int, channels: int, coarser: int, last: bool) -> nn.Sequential:
    # The head is the last convolution of the finest stage.
    outputs = [channels] * (convs - 1) + ([] if last else [coarser])
    layers: list[nn.Module] = []
    for out in outputs:
        layers += [nn.Conv2d(channels, out, 3), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def build(parameters: dict[str, Any]) -> SegNet:
    """The network of a card's `parameters`, see `SegNetConfig`, with random weights.

    Raises ModelError E-MODEL-PARAMETERS.
    """
    return SegNet(parse(SegNetConfig, "segnet", parameters))
