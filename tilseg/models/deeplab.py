"""DeepLabV3+ on a residual encoder.

Chen et al. 2018, arXiv:1802.02611: atrous convolutions of several rates over a map at 1/16, and
a decoder that takes outlines from a map at 1/4. Their image-level feature, the mean of the whole
map, depends on the tile; without it the network is exact. All up-sampling is bilinear with
align_corners=False, where the authors' is True and would depend on the tile too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilseg.models.blocks import Network, conv_norm, initialise, pooled, upsampled
from tilseg.models.parameters import parse
from tilseg.models.resnet import EXPANSION, Encoder, ResNet
from tilseg.models.walk import receptive_field

_STRIDE = 16
_RATES = (6, 12, 18)


@dataclass(frozen=True, slots=True)
class DeepLabConfig:
    """width: channels inside the encoder's first stage, and a quarter of the decoder's.
    image_pooling: whether the mean of the whole window is taken in. halo: pixels of context to
    make do with, 0 for all that the network reaches. dropout: before the head, when training.
    """

    bands: int
    classes: int
    encoder: Encoder = "resnet101"
    width: int = 64
    image_pooling: bool = True
    halo: int = 0
    dropout: float = 0.1


class DeepLab(Network):
    def __init__(self, config: DeepLabConfig) -> None:
        super().__init__()
        self.config = config
        self.bands, self.channels = config.bands, config.classes
        wide = EXPANSION * config.width
        low = 3 * config.width // 4 or 1
        self.encoder = ResNet(config.bands, config.encoder, config.width, _STRIDE)
        self.pyramid = _Pyramid(8 * wide, wide, image_pooling=config.image_pooling)
        self.low = conv_norm(wide, low, 1)
        self.decoder = nn.Sequential(*conv_norm(wide + low, wide), *conv_norm(wide, wide))
        self.dropout = nn.Dropout2d(config.dropout)
        self.head = nn.Conv2d(wide, config.classes, 1)
        self.apply(initialise)
        self.field, reason = receptive_field(self, _STRIDE, config.halo)
        self.inexact = reason or None

    def forward(self, x: Tensor) -> Tensor:
        """(n, bands, rows, cols) -> (n, classes, rows, cols)."""
        fine, _, _, coarse = self.encoder(x)  # at 1/4 and 1/16
        x = upsampled(self.pyramid(coarse), 4)
        x = self.decoder(torch.cat([x, self.low(fine)], dim=1))
        return upsampled(self.head(self.dropout(x)), 4)

    def live_elements(self, rows: int, cols: int) -> int:
        # At 1/4 the decoder's input, its parts and its output, or the encoder's first stage;
        # at 1/2 the first convolution; at 1/16 the last stage.
        return (2 * self.config.width + 2 * self.config.classes) * rows * cols


class _Pyramid(nn.Module):
    """Atrous spatial pyramid pooling."""

    def __init__(self, channels_in: int, channels: int, *, image_pooling: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                conv_norm(channels_in, channels, 1),
                *(conv_norm(channels_in, channels, 3, dilation=rate) for rate in _RATES),
            ]
        )
        self.pooled = pooled(channels_in, channels) if image_pooling else None
        self.join = conv_norm((4 + image_pooling) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [branch(x) for branch in self.branches]
        if self.pooled is not None:
            mean = self.pooled(F.adaptive_avg_pool2d(x, 1))
            maps.append(F.interpolate(mean, x.shape[-2:], mode="nearest"))
        joined: Tensor = self.join(torch.cat(maps, dim=1))
        return joined


def build(parameters: dict[str, Any]) -> DeepLab:
    """The network of a card's `parameters`, see `DeepLabConfig`, with random weights.

    Raises ModelError E-MODEL-PARAMETERS.
    """
    return DeepLab(parse(DeepLabConfig, "deeplabv3plus", parameters))
