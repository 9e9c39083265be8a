"""The U-Net in 8-bit integers, on processors that multiply four of them at once.

Post-training quantisation with integer arithmetic alone (Jacob et al. 2018, arXiv:1712.05877):
weights are int8 with one unit a channel, maps are uint8 with one unit and zero each, taken
from what a float32 network shows on a few windows of the image. A convolution takes no padding
here, so a map's zero is part of the next bias, and the units of the two maps that a skip joins
are part of the next weights. Sums of products are exact integers: what tile, thread or machine
computes a pixel does not show, but for the input's normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, starmap
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tilseg.model import Ranges
from tilseg.models.blocks import halved
from tilseg.models.unet import UNet, UNetConfig

_X = TypeVar("_X")
_MAP, _WEIGHT = 255, 127
# The unit of a map that shows one value: so small that its weights leave those of others their room.
_CONSTANT = 1e-6
# Weights are laid out for maps of about this size; any other gives the same numbers.
_USUAL_SIDE = 64


def why_not(network: nn.Module) -> str | None:
    """What of `network` has no integers here; None where all of it has."""
    if not isinstance(network, UNet):
        return "only the architecture 'unet' can be"
    config, needed = network.config, UNetConfig(1, 1)
    for name in ("padding", "upsampling", "downsampling", "activation", "skips"):
        if getattr(config, name) != getattr(needed, name):
            return f"{name} is {getattr(config, name)!r} instead of {getattr(needed, name)!r}"
    return None


def here() -> bool:
    """Whether this machine has the instructions (AVX-512 VNNI) and this torch the library."""
    built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    return bool(built and torch.cpu._is_vnni_supported())


def prepared(folded: UNet, ranges: Ranges) -> Observer | Int8UNet:
    """`folded` (see `fold`) in integers; without ranges, in float32 to find them."""
    return Int8UNet(folded, ranges) if ranges else Observer(folded)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A convolution without padding: weight (out, in, rows, cols) and bias (out) in float64."""

    weight: Tensor
    bias: Tensor
    relu: bool


def _layers(network: UNet) -> list[_Layer]:
    """All of `network` in the order of `_through`."""

    def block(of: nn.Module) -> list[_Layer]:
        convs = (layer for layer in of.children() if isinstance(layer, nn.Conv2d))
        return [_layer(conv, relu=True) for conv in convs]

    layers = [layer for each in network.encoder for layer in block(each)]
    layers += block(network.bottleneck)
    for up, decoder in zip(reversed(network.up), reversed(network.decoder), strict=True):
        assert isinstance(up.conv, nn.ConvTranspose2d)
        layers += [_phases(up.conv), *block(decoder)]
    return [*layers, _layer(network.head, relu=False)]


def _layer(conv: nn.Conv2d, *, relu: bool) -> _Layer:
    assert conv.bias is not None
    return _Layer(conv.weight, conv.bias, relu)


def _phases(conv: nn.ConvTranspose2d) -> _Layer:
    """The 2x2 transposed convolution of step 2 as one of 1x1 to four pixels in raster order."""
    assert conv.bias is not None
    weight = conv.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (row, col, out), in
    return _Layer(weight[:, :, None, None], conv.bias.repeat(4), relu=False)


def _through(
    steps: Iterable[Callable[[_X], _X]],
    config: UNetConfig,
    x: _X,
    halve: Callable[[_X], _X],
    join: Callable[[_X, _X], _X],
) -> _X:
    """The way of `UNet.forward`: one of `steps` for each layer, two more for what lies between."""
    step = iter(steps)

    def block(x: _X) -> _X:
        for _ in range(config.convs):
            x = next(step)(x)
        return x

    skips = []
    for _ in range(config.depth):
        skips.append(block(x))
        x = halve(skips[-1])
    x = block(x)
    while skips:
        x = block(join(skips.pop(), next(step)(x)))
    return next(step)(x)


def _joined(skip: Tensor, phases: Tensor) -> Tensor:
    """The middle of `skip` (1, c, ...) with the fine map of `phases` (1, 4 c, rows, cols)."""
    # Whole pixels are moved, as items of so many bytes: five times as fast as single channels.
    values, channels = skip.new_empty(0).numpy().dtype, skip.shape[1]
    pixel = np.dtype((np.void, channels * values.itemsize))
    coarse, fine = (x[0].permute(1, 2, 0).contiguous().numpy().view(pixel) for x in (phases, skip))
    rows, cols, _ = coarse.shape
    row, col = (fine.shape[0] - 2 * rows) // 2, (fine.shape[1] - 2 * cols) // 2
    joined = np.empty((2 * rows, 2 * cols, 2), pixel)
    joined[..., 0] = fine[row : row + 2 * rows, col : col + 2 * cols, 0]
    of_phase = joined.reshape(rows, 2, cols, 2, 2)[..., 1]
    of_phase[...] = coarse.reshape(rows, cols, 2, 2).transpose(0, 2, 1, 3)
    return torch.from_numpy(joined.view(values)).permute(2, 0, 1)[None]


class Observer(nn.Module):
    """The network in float32, which notes the ranges of all maps over all it is called with, as
    long as they are finite.

    ranges: (least, largest) of each band of the input, then of the map behind each layer but
    the last.
    """

    def __init__(self, folded: UNet) -> None:
        super().__init__()
        self.ranges: Ranges = ()
        self._config = folded.config
        self._layers = [
            _Layer(each.weight.float(), each.bias.float(), each.relu) for each in _layers(folded)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """(1, bands, rows, cols) float32 -> (1, classes, rows', cols') float32."""
        found = [_range(band) for band in x[0]]

        def step(layer: _Layer) -> Callable[[Tensor], Tensor]:
            def convolved(x: Tensor) -> Tensor:
                x = F.conv2d(x, layer.weight, layer.bias)
                x = x.relu_() if layer.relu else x
                least, largest = _range(x)
                found.append((min(0.0, least), largest))
                return x

            return convolved

        scores = _through(map(step, self._layers), self._config, x, halved, _joined)
        known = found[:-1]
        # Of what overflows somewhere nothing is to be learnt; its scores tell the caller.
        if all(map(math.isfinite, chain.from_iterable(found))):
            self.ranges = tuple(
                (min(low, least), max(high, largest))
                for (low, high), (least, largest) in zip(self.ranges or known, known, strict=True)
            )
        return scores


def _range(x: Tensor) -> tuple[float, float]:
    return x.min().item(), x.max().item()


@dataclass(frozen=True, slots=True)
class _Units:
    """What the numbers of a map mean: value = unit (number - zero), of each channel in float64.

    usual: the number whose value is nearest to 0, that of a map that is constant.
    """

    unit: Tensor
    zero: Tensor
    usual: Tensor

    @classmethod
    def of(cls, ranges: Ranges) -> _Units:
        least, largest = torch.tensor(ranges, dtype=torch.float64).T
        unit = torch.where(largest > least, (largest - least) / _MAP, _CONSTANT)
        return cls(
            unit, -least / unit, (torch.zeros_like(unit).clamp(least, largest) - least) / unit
        )

    def joined(self, phases: _Units) -> _Units:
        def both(skip: Tensor, up: Tensor) -> Tensor:
            return torch.cat([skip, up[: len(up) // 4]])

        return _Units(
            both(self.unit, phases.unit),
            both(self.zero, phases.zero),
            both(self.usual, phases.usual),
        )


class Int8UNet(nn.Module):
    """The network in integers; see `Observer` for `ranges`."""

    def __init__(self, folded: UNet, ranges: Ranges) -> None:
        super().__init__()
        self._config = folded.config
        bands, self._classes = folded.bands, folded.channels
        given = _Units.of(ranges[:bands])
        self._scale, self._shift = (
            values.float()[:, None, None] for values in (1 / given.unit, given.zero + 0.5)
        )
        self._steps: list[_Conv] = []

        def step(layer: _Layer, known: tuple[float, float] | None) -> Callable[[_Units], _Units]:
            def added(given: _Units) -> _Units:
                made = None if known is None else _Units.of((known,) * len(layer.bias))
                self._steps.append(_Conv(layer, given, made))
                return made or given

            return added

        pairs = zip(_layers(folded), [*ranges[bands:], None], strict=True)
        _through(starmap(step, pairs), self._config, given, lambda units: units, _Units.joined)

    def forward(self, x: Tensor) -> Tensor:
        """(1, bands, rows, cols) float32 -> (1, classes, rows', cols') float32."""
        # Half a unit more, and the fraction dropped: rounded, halves up.
        if not x.abs().amax().isfinite():
            # Integers have no word for it; the caller asks the scores.
            return torch.full_like(x[:, :1], torch.nan).expand(-1, self._classes, -1, -1)
        numbers = x.mul(self._scale).add_(self._shift).clamp_(0, _MAP).to(torch.uint8)
        numbers = numbers.contiguous(memory_format=torch.channels_last)
        return _through(self._steps, self._config, numbers, halved, _joined)


class _Conv:
    """One layer from uint8 in units `given` to uint8 in units `made`, or to float32 for None."""

    def __init__(self, layer: _Layer, given: _Units, made: _Units | None) -> None:
        weight, bias = layer.weight * given.unit[:, None, None], layer.bias
        if made is not None:
            weight, bias = weight / made.unit[:, None, None, None], bias / made.unit + made.zero
        most = weight.abs().amax(dim=(1, 2, 3))
        unit = torch.where(most > 0, most / _WEIGHT, 1.0)
        numbers = (weight / unit[:, None, None, None]).round()
        # Rounded weights for what differs from the usual, and the weights themselves for that.
        bias = bias + weight.sum(dim=(2, 3)) @ (given.usual - given.zero)
        bias = bias - unit * (numbers.sum(dim=(2, 3)) @ given.usual)
        self._unit, self._bias = unit.float(), bias.float()
        self._zero = torch.zeros(len(unit), dtype=torch.int32)
        self._activation = "relu" if layer.relu else "none"
        self._dtype = torch.float32 if made is None else torch.uint8
        self._weight = torch.ops.onednn.qconv_prepack(
            numbers.to(torch.int8),
            *(self._unit, 1.0, 0, (1, 1), (0, 0), (1, 1), 1),
            (1, weight.shape[1], _USUAL_SIDE, _USUAL_SIDE),
        )

    def __call__(self, x: Tensor) -> Tensor:
        found: Tensor = torch.ops.onednn.qconv_pointwise(
            *(x, 1.0, 0, self._weight, self._unit, self._zero, self._bias),
            *((1, 1), (0, 0), (1, 1), 1),  # stride, padding, dilation, groups
            *(1.0, 0, self._dtype, self._activation, (), ""),
        )
        return found
