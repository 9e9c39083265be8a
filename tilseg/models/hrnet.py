"""HRNet (V2) of a small size: maps at 1/4, 1/8, 1/16 and 1/32 side by side, exchanged again and
again, and joined at the end.

Wang et al. 2021, arXiv:1908.07919; the sizes are those of the authors' two small networks. All
up-sampling is bilinear with align_corners=False.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilseg.models.blocks import Network, conv_norm, initialise, upsampled
from tilseg.models.parameters import parse
from tilseg.models.resnet import EXPANSION, Bottleneck
from tilseg.models.walk import receptive_field

_STRIDE = 32
_BLOCKS = 2  # residual blocks of each branch between two exchanges
# Bottlenecks at the beginning, their channels as a share of the stem's, and exchanges among two,
# three and four branches.
_SIZES = {"small-v1": (1, 2, (1, 1, 1)), "small-v2": (2, 1, (1, 3, 2))}


@dataclass(frozen=True, slots=True)
class HRNetConfig:
    """size: how often branches exchange. width: channels of the finest branch, doubled from one
    to the next; 16 in the authors' small-v1. stem: channels of the first two convolutions. halo:
    pixels of context to make do with, 0 for all that the network reaches."""

    bands: int
    classes: int
    size: Literal["small-v1", "small-v2"] = "small-v2"
    width: int = 18
    stem: int = 64
    halo: int = 0


class HRNet(Network):
    def __init__(self, config: HRNetConfig) -> None:
        super().__init__()
        self.config = config
        self.bands, self.channels = config.bands, config.classes
        blocks, share, exchanges = _SIZES[config.size]
        stem, inside = config.stem, max(1, config.stem // share)
        out = EXPANSION * inside
        self.stem = nn.Sequential(
            *conv_norm(config.bands, stem, stride=2), *conv_norm(stem, stem, stride=2)
        )
        self.first = nn.Sequential(
            *(Bottleneck(out if block else stem, inside) for block in range(blocks))
        )
        widths = [config.width * 2**branch for branch in range(4)]
        self.begin = conv_norm(out, widths[0])
        # Each new branch begins at half the pixels of the last one.
        self.branch = nn.ModuleList(
            conv_norm(before, width, stride=2)
            for before, width in zip([out, *widths[1:]], widths[1:], strict=False)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Exchange(widths[: 2 + stage]) for _ in range(count)))
            for stage, count in enumerate(exchanges)
        )
        joined = sum(widths)
        self.join = nn.Sequential(
            nn.Conv2d(joined, joined, 1), nn.BatchNorm2d(joined), nn.ReLU(inplace=True)
        )
        self.head = nn.Conv2d(joined, config.classes, 1)
        self.apply(initialise)
        self.field, reason = receptive_field(self, _STRIDE, config.halo)
        self.inexact = reason or None

    def forward(self, x: Tensor) -> Tensor:
        """(n, bands, rows, cols) -> (n, classes, rows, cols)."""
        x = self.first(self.stem(x))  # at 1/4
        maps, last = [self.begin(x)], x
        for branch, stage in zip(self.branch, self.stages, strict=True):
            maps.append(branch(last))
            maps = stage(maps)
            last = maps[-1]
        finest, *coarser = maps
        parts = [finest, *(upsampled(x, 2**level) for level, x in enumerate(coarser, 1))]
        return upsampled(self.head(self.join(torch.cat(parts, dim=1))), 4)

    def live_elements(self, rows: int, cols: int) -> int:
        # At 1/2 the first convolution; at 1/4 the joined branches with their parts.
        per_pixel = self.config.stem + 4 * self.config.width + 2 * self.config.classes
        return per_pixel * rows * cols


class _Exchange(nn.Module):
    """Some residual blocks in each branch; then each gets the sum of all, scaled to its size."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(_Block(width) for _ in range(_BLOCKS))) for width in widths
        )
        ends = range(len(widths))
        self.ways = nn.ModuleDict(
            {f"{start}{end}": _way(widths, start, end) for end in ends for start in ends}
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        return [self._sum(maps, end) for end in range(len(maps))]

    def _sum(self, maps: list[Tensor], end: int) -> Tensor:
        parts = [self.ways[f"{start}{end}"](x) for start, x in enumerate(maps)]
        total: Tensor = parts[end]
        for start, part in enumerate(parts):
            if start != end:
                total = total + (upsampled(part, 2 ** (start - end)) if start > end else part)
        return F.relu(total)


def _way(widths: list[int], start: int, end: int) -> nn.Module:
    """From one branch to another, but for the up-sampling."""
    if start == end:
        return nn.Identity()
    if start > end:
        return conv_norm(widths[start], widths[end], 1, relu=False)
    # Steps of 2; only the last one widens.
    steps = [conv_norm(widths[start], widths[start], stride=2) for _ in range(end - start - 1)]
    last = conv_norm(widths[start], widths[end], stride=2, relu=False)
    return nn.Sequential(*steps, last)


class _Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            *conv_norm(channels, channels), *conv_norm(channels, channels, relu=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x) + x, inplace=True)


def build(parameters: dict[str, Any]) -> HRNet:
    """The network of a card's `parameters`, see `HRNetConfig`, with random weights.

    Raises ModelError E-MODEL-PARAMETERS.
    """
    return HRNet(parse(HRNetConfig, "hrnet", parameters))
