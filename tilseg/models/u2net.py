"""U2-Net and U2-NetP: a U-Net whose every block is a small U-Net.

Qin et al. 2020, arXiv:2005.09007. Modules bear the names of the authors' code, so that its
weights fit. It reaches thousands of pixels, little of which matters: a practical halo is given,
and then the network is not exact.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilseg.models.blocks import Network, initialise, upsampled
from tilseg.models.parameters import parse
from tilseg.models.walk import receptive_field

_STRIDE = 32
# Maps of each stage's small U-Net; those of the last two are dilated instead of pooled.
_MAPS = {"1": 7, "2": 6, "3": 5, "4": 4, "5": 4, "6": 4}
_DILATED = ("5", "6")
# Channels inside and out of each stage, in widths, down and up; 1 and 4 in the light network.
_DOWN = {"1": (2, 4), "2": (2, 8), "3": (4, 16), "4": (8, 32), "5": (16, 32), "6": (16, 32)}
_UP = {"5": (16, 32), "4": (8, 16), "3": (4, 8), "2": (2, 4), "1": (1, 4)}


@dataclass(frozen=True, slots=True)
class U2NetConfig:
    """width: channels inside the last stage, 16 in the paper; all others follow. light: the small
    network, whose stages are all of that width. halo: pixels of context to make do with, 0 for
    all that the network reaches."""

    bands: int
    classes: int
    width: int = 16
    light: bool = False
    halo: int = 256


class U2Net(Network):
    head_weights = (1.0,) * 7

    def __init__(self, config: U2NetConfig) -> None:
        super().__init__()
        self.config = config
        self.bands, self.channels = config.bands, config.classes
        outs = {}
        channels = config.bands
        for stage, sizes in _DOWN.items():
            inside, outs[stage] = self._sizes(sizes)
            self.add_module(f"stage{stage}", _block(stage, channels, inside, outs[stage]))
            channels = outs[stage]
        self._add_side("6", channels)
        for stage, sizes in _UP.items():
            inside, out = self._sizes(sizes)
            block = _block(stage, channels + outs[stage], inside, out)
            self.add_module(f"stage{stage}d", block)
            self._add_side(stage, out)
            channels = out
        self.outconv = nn.Conv2d(6 * config.classes, config.classes, 1)
        self.apply(initialise)
        self.field, reason = receptive_field(self, _STRIDE, config.halo)
        self.inexact = reason or None

    def _sizes(self, sizes: tuple[int, int]) -> tuple[int, int]:
        inside, out = (1, 4) if self.config.light else sizes
        return inside * self.config.width, out * self.config.width

    def _add_side(self, stage: str, channels: int) -> None:
        self.add_module(f"side{stage}", nn.Conv2d(channels, self.channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(n, bands, rows, cols) -> (n, classes, rows, cols)."""
        return self.heads(x)[0]

    def heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """The scores and the six side outputs that they are made of, finest first."""
        maps: list[Tensor] = []
        for stage in _DOWN:
            x = self.get_submodule(f"stage{stage}")(F.max_pool2d(x, 2) if maps else x)
            maps.append(x)
        maps.pop()
        sides = [upsampled(self.get_submodule("side6")(x), 32)]
        for stage in _UP:
            joined = torch.cat([upsampled(x, 2), maps.pop()], dim=1)
            x = self.get_submodule(f"stage{stage}d")(joined)
            side = self.get_submodule(f"side{stage}")(x)
            factor = 2 ** (int(stage) - 1)
            sides.append(upsampled(side, factor) if factor > 1 else side)
        sides.reverse()
        return self.outconv(torch.cat(sides, dim=1)), *sides

    def live_elements(self, rows: int, cols: int) -> int:
        # In the last stage: its input of 8 widths and its first map of 4, and the same again
        # while they are joined; after it the sides.
        return (20 * self.config.width + 14 * self.config.classes) * rows * cols


def _block(stage: str, channels_in: int, inside: int, out: int) -> _SmallUNet:
    return _SmallUNet(_MAPS[stage], channels_in, inside, out, flat=stage in _DILATED)


class _SmallUNet(nn.Module):
    """A residual U-block of so many maps, each half of the one before, but for the last, which
    is dilated; `flat` dilates all of them instead."""

    def __init__(self, maps: int, channels_in: int, inside: int, out: int, *, flat: bool) -> None:
        super().__init__()
        self.maps, self.flat = maps, flat
        rates = [2**k if flat else 1 for k in range(maps - 1)] + [2 ** (maps - 1) if flat else 2]
        self.rebnconvin = _conv(channels_in, out)
        for k, rate in enumerate(rates, 1):
            self.add_module(f"rebnconv{k}", _conv(out if k == 1 else inside, inside, rate))
        for k in reversed(range(1, maps)):
            name, wide = f"rebnconv{k}d", out if k == 1 else inside
            self.add_module(name, _conv(2 * inside, wide, rates[k - 1]))

    def forward(self, x: Tensor) -> Tensor:
        begin: Tensor = self.rebnconvin(x)
        x = begin
        maps: list[Tensor] = []
        for k in range(1, self.maps + 1):
            if 1 < k < self.maps and not self.flat:
                x = F.max_pool2d(x, 2)
            x = self.get_submodule(f"rebnconv{k}")(x)
            maps.append(x)
        maps.pop()
        for k in reversed(range(1, self.maps)):
            x = self.get_submodule(f"rebnconv{k}d")(torch.cat([x, maps.pop()], dim=1))
            if k > 1 and not self.flat:
                x = upsampled(x, 2)
        return x + begin


def _conv(channels_in: int, channels: int, rate: int = 1) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv_s1=nn.Conv2d(channels_in, channels, 3, padding=rate, dilation=rate),
            bn_s1=nn.BatchNorm2d(channels),
            relu_s1=nn.ReLU(inplace=True),
        )
    )


def build(parameters: dict[str, Any]) -> U2Net:
    """The network of a card's `parameters`, see `U2NetConfig`, with random weights.

    Raises ModelError E-MODEL-PARAMETERS.
    """
    return U2Net(parse(U2NetConfig, "u2net", parameters))
