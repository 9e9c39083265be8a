"""UNet++: a U-Net of every depth up to the last, joined by nested skips.

Zhou et al. 2018, arXiv:1807.10165, and 2020, arXiv:1912.05074. Node (i, j) of the papers is at
level i, after j up-samplings; each finest node but the first has a head, and the scores are
their mean (the papers' accurate mode).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilseg.models.blocks import Network, conv_block, crop_to, initialise
from tilseg.models.parameters import parse
from tilseg.receptive_field import compose, compose_same


@dataclass(frozen=True, slots=True)
class UNetPPConfig:
    """depth: poolings. width: channels of the finest level, doubled at each level down. convs:
    3x3 convolutions a node."""

    bands: int
    classes: int
    depth: int = 4
    width: int = 32
    convs: int = 2
    padding: Literal["valid", "same"] = "valid"
    norm: Literal["none", "batch"] = "none"


class UNetPP(Network):
    inexact = None

    def __init__(self, config: UNetPPConfig) -> None:
        super().__init__()
        self.config = config
        self.bands, self.channels = config.bands, config.classes
        # The longest way is through all levels, as in a U-Net of this depth.
        lost = [2 * config.convs] * config.depth
        arithmetic = compose if config.padding == "valid" else compose_same
        self.field = arithmetic(lost, 2 * config.convs, lost, [0] * config.depth)
        widths = [config.width * 2**level for level in range(config.depth + 1)]
        block: dict[str, Any] = {
            name: getattr(config, name) for name in ("convs", "padding", "norm")
        }
        self.encoder = nn.ModuleList(
            conv_block(below, above, activation="relu", **block)
            for below, above in zip([config.bands, *widths], widths, strict=False)
        )
        self.nodes = nn.ModuleDict(
            {
                f"{level}{j}": _Node(j, wide, block)
                for level, wide in enumerate(widths[:-1])
                for j in range(1, config.depth - level + 1)
            }
        )
        self.score = nn.ModuleList(
            nn.Conv2d(config.width, config.classes, 1) for _ in range(config.depth)
        )
        self.head_weights = (1 / config.depth,) * config.depth
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(n, bands, rows, cols) -> (n, classes, rows', cols'), the mean of all heads."""
        heads = self.heads(x)
        return torch.stack([crop_to(head, heads[-1]) for head in heads]).mean(dim=0)

    def heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """Scores of the U-Nets of depth 1, 2, ...; deeper ones lose more pixels."""
        columns: list[list[Tensor]] = []
        for level, block in enumerate(self.encoder):
            x = block(x if level == 0 else F.max_pool2d(x, 2))
            columns.append([x])
            # Everything above that this level allows: the papers' next diagonal.
            for above in reversed(range(level)):
                node = self.nodes[f"{above}{level - above}"]
                columns[above].append(node(columns[above], columns[above + 1][-1]))
        finest = columns[0][1:]
        return tuple(score(node) for score, node in zip(self.score, finest, strict=True))

    def live_elements(self, rows: int, cols: int) -> int:
        # All nodes of the finest level, and the same again joined for the last of them; below
        # it each level has a node less, of twice the channels at a quarter of the pixels. Then
        # the scores of all heads, stacked.
        nodes = (3 * self.config.depth + 4) * self.config.width
        return (nodes + 2 * self.config.depth * self.config.classes) * rows * cols


class _Node(nn.Module):
    """Node j of a level, from the j maps that the level has and one of the level below."""

    def __init__(self, j: int, channels: int, block: dict[str, Any]) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * channels, channels, 2, stride=2)
        self.block = conv_block((j + 1) * channels, channels, activation="relu", **block)

    def forward(self, known: list[Tensor], coarser: Tensor) -> Tensor:
        fine = self.up(coarser)
        joined = torch.cat([*(crop_to(each, fine) for each in known), fine], dim=1)
        node: Tensor = self.block(joined)
        return node


def build(parameters: dict[str, Any]) -> UNetPP:
    """The network of a card's `parameters`, see `UNetPPConfig`, with random weights.

    Raises ModelError E-MODEL-PARAMETERS.
    """
    return UNetPP(parse(UNetPPConfig, "unetpp", parameters))
