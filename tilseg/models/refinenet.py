"""RefineNet: four maps of a residual encoder, refined from the coarsest to the finest.

Lin et al. 2017, arXiv:1611.06612, as the authors' ResNet-101 model is made: two residual
convolution units before each fusion, three after it, and four links of residual pooling. All
up-sampling is bilinear with align_corners=False, where theirs is True and would depend on the
tile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilseg.models.blocks import Network, initialise, unsure, upsampled
from tilseg.models.parameters import parse
from tilseg.models.resnet import EXPANSION, Encoder, ResNet
from tilseg.models.walk import receptive_field

_STRIDE = 32
_LINKS = 4


@dataclass(frozen=True, slots=True)
class RefineNetConfig:
    """width: channels inside the encoder's first stage; refinement has four times as many, the
    coarsest eight times. halo: pixels of context to make do with, 0 for all that the network
    reaches. dropout: of the two coarsest maps and before the head, when training."""

    bands: int
    classes: int
    encoder: Encoder = "resnet101"
    width: int = 64
    halo: int = 0
    dropout: float = 0.5


class RefineNet(Network):
    def __init__(self, config: RefineNetConfig) -> None:
        super().__init__()
        self.config = config
        self.bands, self.channels = config.bands, config.classes
        wide = EXPANSION * config.width
        self.encoder = ResNet(config.bands, config.encoder, config.width, _STRIDE)
        # Coarsest first.
        self.refine = nn.ModuleList(
            _Refine(wide * 2**level, 2 * wide if level == 3 else wide, None if level == 3 else wide)
            for level in reversed(range(4))
        )
        self.fuse = nn.ModuleList(_conv(channels, wide) for channels in (2 * wide, wide, wide))
        self.dropout = nn.Dropout2d(config.dropout)
        self.head = nn.Conv2d(wide, config.classes, 3, padding=1)
        self.apply(initialise)
        self.refine.apply(_calm)
        self.fuse.apply(_calm)
        unsure(self.head)
        self.field, reason = receptive_field(self, _STRIDE, config.halo)
        self.inexact = reason or None

    def forward(self, x: Tensor) -> Tensor:
        """(n, bands, rows, cols) -> (n, classes, rows, cols)."""
        maps = self.encoder(x)  # at 1/4, 1/8, 1/16 and 1/32
        x = self.refine[0](self.dropout(maps.pop()), None)
        maps.append(self.dropout(maps.pop()))
        for refine, fuse in zip(list(self.refine)[1:], self.fuse, strict=True):
            x = refine(maps.pop(), upsampled(fuse(x), 2))
        return upsampled(self.head(self.dropout(x)), 4)

    def live_elements(self, rows: int, cols: int) -> int:
        # At 1/4 a map with what refines it; at 1/2 the first convolution.
        return (2 * self.config.width + 2 * self.config.classes) * rows * cols


class _Refine(nn.Module):
    """A map of the encoder, fused with the coarser one where there is one, pooled and refined."""

    def __init__(self, channels_in: int, channels: int, fused: int | None) -> None:
        super().__init__()
        self.reduce = _conv(channels_in, channels)
        self.before = nn.Sequential(*[_Unit(channels) for _ in range(2)])
        self.adapt = _conv(channels, fused) if fused else None
        self.links = nn.ModuleList(_conv(channels, channels) for _ in range(_LINKS))
        self.after = nn.Sequential(*[_Unit(channels) for _ in range(3)])

    def forward(self, x: Tensor, coarser: Tensor | None) -> Tensor:
        x = self.before(self.reduce(x))
        if self.adapt is not None:
            x = self.adapt(x) + coarser
        x = top = F.relu(x)
        for link in self.links:
            top = link(F.max_pool2d(top, 5, 1, padding=2))
            x = x + top
        refined: Tensor = self.after(x)
        return refined


class _Unit(nn.Module):
    """A residual convolution unit, without normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        refined: Tensor = self.second(F.relu(self.first(F.relu(x))))
        return x + refined


def _calm(module: nn.Module) -> None:
    """Begin with small sums: nothing here is normalised, and 36 of them add up.

    Residual branches begin near nothing, as Zhang et al. 2019 do (arXiv:1901.09321), and what no
    ReLU follows keeps the variance instead of doubling it.
    """
    with torch.no_grad():
        if isinstance(module, _Unit):
            module.second.weight *= 0.1
        elif isinstance(module, _Refine):
            for link in module.links:
                link.get_parameter("weight").mul_(0.3)
        elif isinstance(module, nn.Conv2d):
            module.weight *= 0.5**0.5


def _conv(channels_in: int, channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)


def build(parameters: dict[str, Any]) -> RefineNet:
    """The network of a card's `parameters`, see `RefineNetConfig`, with random weights.

    Raises ModelError E-MODEL-PARAMETERS.
    """
    return RefineNet(parse(RefineNetConfig, "refinenet", parameters))
