"""PSPNet: a residual encoder at 1/8 and means of the whole window and its parts.

Zhao et al. 2017, arXiv:1612.01105, with their deeper stem and the auxiliary head on the third
stage, whose loss counts 0.4. The pyramid depends on the tile, so this network is never exact;
the halo is that of everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilseg.models.blocks import Network, conv_norm, initialise, pooled, upsampled
from tilseg.models.parameters import parse
from tilseg.models.resnet import Encoder, ResNet
from tilseg.models.walk import receptive_field

_STRIDE = 8
_BINS = (1, 2, 3, 6)  # parts along each axis


@dataclass(frozen=True, slots=True)
class PSPNetConfig:
    """width: channels inside the encoder's first stage. halo: pixels of context to make do with,
    0 for all that the network reaches beside its pyramid. dropout: before the heads, when
    training."""

    bands: int
    classes: int
    encoder: Encoder = "resnet50"
    width: int = 64
    halo: int = 0
    dropout: float = 0.1


class PSPNet(Network):
    head_weights = (1.0, 0.4)

    def __init__(self, config: PSPNetConfig) -> None:
        super().__init__()
        self.config = config
        self.bands, self.channels = config.bands, config.classes
        coarse, width = 32 * config.width, config.width
        self.encoder = ResNet(config.bands, config.encoder, width, _STRIDE, deep_stem=True)
        self.pyramid = nn.ModuleList(pooled(coarse, coarse // len(_BINS)) for _ in _BINS)
        self.decoder = conv_norm(2 * coarse, 8 * width)
        self.head = nn.Conv2d(8 * width, config.classes, 1)
        self.side = conv_norm(coarse // 2, 4 * width)
        self.side_head = nn.Conv2d(4 * width, config.classes, 1)
        self.dropout = nn.Dropout2d(config.dropout)
        self.apply(initialise)
        self.field, self.inexact = receptive_field(self, _STRIDE, config.halo)

    def forward(self, x: Tensor) -> Tensor:
        """(n, bands, rows, cols) -> (n, classes, rows, cols)."""
        return self._score(self.encoder(x)[3])

    def heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """The scores, and those of the auxiliary head."""
        _, _, third, last = self.encoder(x)
        side = self.side_head(self.dropout(self.side(third)))
        return self._score(last), upsampled(side, _STRIDE)

    def _score(self, coarse: Tensor) -> Tensor:
        maps = [coarse]
        for bins, part in zip(_BINS, self.pyramid, strict=True):
            mean = part(F.adaptive_avg_pool2d(coarse, bins))
            maps.append(F.interpolate(mean, coarse.shape[-2:], mode="bilinear"))
        x = self.decoder(torch.cat(maps, dim=1))
        return upsampled(self.head(self.dropout(x)), _STRIDE)

    def live_elements(self, rows: int, cols: int) -> int:
        # At 1/8 the encoder's last map and the pyramid beside and joined with it; at 1/2 the
        # stem; at 1 the scores.
        return (3 * self.config.width + 2 * self.config.classes) * rows * cols


def build(parameters: dict[str, Any]) -> PSPNet:
    """The network of a card's `parameters`, see `PSPNetConfig`, with random weights.

    Raises ModelError E-MODEL-PARAMETERS.
    """
    return PSPNet(parse(PSPNetConfig, "pspnet", parameters))
