"""Residual encoders of bottlenecks, zero-padded.

He et al. 2016, arXiv:1512.03385, with the step of 2 in the 3x3 convolutions, as torchvision has
it. Where a coarser map is not wanted, steps give way to dilation (Yu and Koltun 2016,
arXiv:1511.07122).
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from tilseg.models.blocks import conv_norm

Encoder = Literal["resnet26", "resnet50", "resnet101"]

_BLOCKS = {"resnet26": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
EXPANSION = 4  # channels of a stage's output over those inside its bottlenecks


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; `channels` inside, four times as many out."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        out = EXPANSION * channels
        # One flat sequence, so that `fold` finds each normalisation behind its convolution.
        self.main = nn.Sequential(
            *conv_norm(channels_in, channels, 1),
            *conv_norm(channels, channels, 3, stride=stride, dilation=dilation),
            *conv_norm(channels, out, 1, relu=False),
        )
        self.shortcut = (
            nn.Identity()
            if channels_in == out and stride == 1
            else conv_norm(channels_in, out, 1, stride=stride, relu=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.main(x) + self.shortcut(x), inplace=True)


class ResNet(nn.Module):
    """Four maps: the first at a quarter of the pixels along each axis, the last at 1 / `stride`.

    width: channels inside the first stage's bottlenecks, 64 in the papers; outputs have
    4, 8, 16 and 32 times as many. deep_stem: three 3x3 convolutions first instead of one 7x7.
    """

    def __init__(
        self, bands: int, encoder: Encoder, width: int, stride: int, *, deep_stem: bool = False
    ) -> None:
        super().__init__()
        if deep_stem:
            channels = 2 * width
            convs = (
                *conv_norm(bands, width, 3, stride=2),
                *conv_norm(width, width, 3),
                *conv_norm(width, channels, 3),
            )
        else:
            channels = width
            convs = (*conv_norm(bands, width, 7, stride=2),)
        self.stem = nn.Sequential(*convs, nn.MaxPool2d(3, 2, padding=1))
        self.stages = nn.ModuleList()
        scale, dilation = 4, 1
        for level, blocks in enumerate(_BLOCKS[encoder]):
            step = 2 if level and scale < stride else 1
            scale, dilation = scale * step, dilation * (2 if level and step == 1 else 1)
            wide = width * 2**level
            stage = [Bottleneck(channels, wide, step, dilation)]
            channels = EXPANSION * wide
            stage += [Bottleneck(channels, wide, 1, dilation) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*stage))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps
