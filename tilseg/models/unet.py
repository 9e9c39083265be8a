"""The U-Net, exact under tiling.

References:
  Ronneberger, Fischer and Brox 2015, arXiv:1505.04597: the network. The defaults below are the
    paper's: 572 x 572 pixels in, 388 x 388 out, 31,030,658 parameters.
  Rumberger et al. 2021, arXiv:2101.05846: why tiles must sit on the pooling lattice.
  Odena et al. 2016 (Deconvolution and checkerboard artifacts): the other up-samplings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tilseg.models.blocks import (
    Down,
    Network,
    Up,
    Upsampling,
    conv_block,
    crop_to,
    initialise,
    up_crop,
)
from tilseg.models.parameters import parse, refuse
from tilseg.models.strips import ROWS, in_strips, joined
from tilseg.receptive_field import ReceptiveField, compose, compose_same


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """One U-Net. `classes` counts output channels: 1 for a sigmoid head.

    depth: poolings, so the lattice is 2^depth. width: channels of the finest level, doubled at
    each level down. convs: 3x3 convolutions a block. dropout: of whole channels, at the end of
    the contracting path, when training.
    """

    bands: int
    classes: int
    depth: int = 4
    width: int = 64
    convs: int = 2
    padding: Literal["valid", "same"] = "valid"
    upsampling: Upsampling = "transposed"
    downsampling: Literal["max", "stride"] = "max"
    norm: Literal["none", "batch"] = "none"
    activation: Literal["relu", "leaky_relu"] = "relu"
    dropout: float = 0.0
    skips: bool = True

    @property
    def receptive_field(self) -> ReceptiveField:
        lost = [2 * self.convs] * self.depth
        cropped = [2 * up_crop(self.upsampling)] * self.depth
        arithmetic = compose if self.padding == "valid" else compose_same
        return arithmetic(lost, 2 * self.convs, lost, cropped)

    @property
    def inexact(self) -> str | None:
        if self.upsampling == "bilinear-corners":
            return (
                "bilinear up-sampling with align_corners=True, whose step depends on the tile size"
            )
        return None


class UNet(Network):
    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.bands, self.channels = config.bands, config.classes
        self.field = config.receptive_field
        self.inexact = config.inexact
        widths = [config.width * 2**level for level in range(config.depth + 1)]
        unpooling = config.upsampling == "unpool"
        block: dict[str, Any] = {
            name: getattr(config, name) for name in ("convs", "padding", "norm", "activation")
        }
        self.encoder = nn.ModuleList(
            conv_block(below, above, **block)
            for below, above in zip([config.bands, *widths], widths[:-1], strict=False)
        )
        self.down = nn.ModuleList(
            Down(width, config.downsampling, indices=unpooling) for width in widths[:-1]
        )
        self.bottleneck = conv_block(widths[-2], widths[-1], dropout=config.dropout, **block)
        self.up = nn.ModuleList(
            Up(2 * width, width, config.upsampling) for width in widths[:-1]
        )  # finest level first, like the encoder
        self.decoder = nn.ModuleList(
            conv_block((1 + config.skips) * width, width, **block) for width in widths[:-1]
        )
        self.head = nn.Conv2d(config.width, config.classes, 1)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(n, bands, rows, cols) -> (n, classes, rows', cols'), the lost pixels off each side."""
        for pixels in x.shape[-2:]:
            if pixels % self.field.stride != self.field.offset:
                raise ValueError(f"input {tuple(x.shape)} is not on the lattice of {self.field}")
        skips, places = [], []
        for block, down in zip(self.encoder, self.down, strict=True):
            skip = block(x)  # (n, width 2^i, rows_i, cols_i)
            x, place = down(skip)  # rows_i / 2, cols_i / 2
            skips.append(skip if self.config.skips else None)
            places.append(place)
        del skip
        x = self.bottleneck(x)  # (n, width 2^depth, ...)
        for level in reversed(range(self.config.depth)):
            x = self.up[level](x, places.pop())
            if self.config.padding == "valid":
                x = _crop(x, up_crop(self.config.upsampling))
            if level == 0 and self._is_lean(x):
                return in_strips(self._last, _maps(skips.pop(), x), 2 * self.config.convs)
            # (n, width 2^(i + 1), ...) with skips, else width 2^i
            x = joined(_maps(skips.pop(), x))
            x = self.decoder[level](x)
        scores: Tensor = self.head(x)
        return scores

    def _last(self, x: Tensor) -> Tensor:
        """Scores of the finest maps, joined."""
        scores: Tensor = self.head(self.decoder[0](x))
        return scores

    def _is_lean(self, x: Tensor) -> bool:
        """Whether the finest level goes strip by strip: not where all of it is kept for gradients,
        nor on a GPU, which pieces would keep waiting, nor where the network is only written down
        for another program or counted (on the device "meta")."""
        traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        kept = self.training or torch.is_grad_enabled()
        return self.config.padding == "valid" and x.device.type == "cpu" and not (kept or traced)

    def live_elements(self, rows: int, cols: int) -> int:
        config = self.config
        if config.padding != "valid":
            # The worst moment is the finest concatenation, where the skip, the up-sampled map and
            # both joined are alive; coarser levels need less although finer skips wait.
            return 4 * config.width * rows * cols
        # Or that of the second level, half as large, with the finest skip waiting; or the finest
        # up-sampling, where it takes a map of its own; or, at the finest, a strip of both joined and
        # what two convolutions make of it, with the scores of all strips and these in one.
        strip = min(rows, ROWS + 2 * config.convs)
        coarser = 7 * rows // 2 if config.upsampling in ("pixelshuffle", "unpool") else 3 * rows
        maps = config.width * max(coarser, 2 * rows + 4 * strip)
        return (maps + 2 * config.classes * rows) * cols


def _crop(x: Tensor, pixels: int) -> Tensor:
    return x[..., pixels : x.shape[-2] - pixels, pixels : x.shape[-1] - pixels]


def _maps(skip: Tensor | None, x: Tensor) -> list[Tensor]:
    return [x] if skip is None else [crop_to(skip, x), x]


def build(parameters: dict[str, Any]) -> UNet:
    """The network of a card's `parameters`, see `UNetConfig`, with random weights.

    Raises ModelError E-MODEL-PARAMETERS naming the first parameter that is unknown, missing or
    not allowed.
    """
    config = parse(UNetConfig, "unet", parameters)
    if config.upsampling == "unpool" and config.downsampling != "max":
        refuse("unet", "upsampling 'unpool' needs downsampling 'max'")
    return UNet(config)
