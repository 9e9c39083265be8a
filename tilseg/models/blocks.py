"""Pieces that networks are built of, and the folding of what inference does not need.

Maps are (n, channels, rows, cols). Every piece here commutes with shifts of one coarse pixel
and reads no pixel it does not need, but for the ring that its docstring says to crop.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tilseg.receptive_field import ReceptiveField

Upsampling = Literal[
    "transposed", "nearest", "bilinear", "bilinear-corners", "pixelshuffle", "unpool"
]

# Two activations closer than this count as one; float32 sums differ by about a tenth of it.
_ROUNDING = 1e-5


class Network(nn.Module, ABC):
    """What `build` of an architecture module returns: (n, bands, rows, cols) -> scores.

    The output is (n, channels, rows', cols'), at least rows - 2 halo by cols - 2 halo and with
    as much to spare on either side; the caller crops it.

    bands, channels: of input and output. field: context, lattice and legal sizes.
    inexact: the layer that makes tiled differ from whole, and why; None where they are equal.
    """

    bands: int
    channels: int
    field: ReceptiveField
    inexact: str | None
    # Of the losses of `heads`, in a training.
    head_weights: tuple[float, ...] = (1.0,)

    def heads(self, x: Tensor) -> tuple[Tensor, ...]:
        """All scores that a training supervises, each sized like the output or larger."""
        return (self(x),)

    @abstractmethod
    def live_elements(self, rows: int, cols: int) -> int:
        """Numbers alive at once while one input of (rows, cols) is predicted, from above."""


def conv_block(
    channels_in: int,
    channels: int,
    *,
    convs: int,
    padding: Literal["valid", "same"],
    norm: Literal["none", "batch"],
    activation: Literal["relu", "leaky_relu"],
    dropout: float = 0.0,
) -> nn.Sequential:
    """`convs` 3x3 convolutions, each followed by its normalisation and activation.

    With "valid" padding it takes 2 `convs` pixels from each axis. The block is one flat
    sequence, so that `fold` finds a normalisation right behind its convolution.
    """
    layers: list[nn.Module] = []
    for source in [channels_in] + [channels] * (convs - 1):
        # A bias before a normalisation would be subtracted again.
        layers.append(nn.Conv2d(source, channels, 3, padding=padding, bias=norm == "none"))
        if norm == "batch":
            layers.append(nn.BatchNorm2d(channels))
        layers.append(nn.ReLU(inplace=True) if activation == "relu" else nn.LeakyReLU(inplace=True))
    if dropout:
        layers.append(nn.Dropout2d(dropout))
    return nn.Sequential(*layers)


def conv_norm(
    channels_in: int,
    channels: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    dilation: int = 1,
    padding: int | None = None,
    relu: bool = True,
) -> nn.Sequential:
    """A convolution with batch norm and, but for `relu=False`, ReLU.

    padding: pixels a side; None for as many as keep the size at a stride of 1.
    """
    beside = dilation * (kernel // 2) if padding is None else padding
    layers: list[nn.Module] = [
        nn.Conv2d(channels_in, channels, kernel, stride, beside, dilation, bias=False),
        nn.BatchNorm2d(channels),
    ]
    return nn.Sequential(*layers, *[nn.ReLU(inplace=True)] * relu)


def pooled(channels_in: int, channels: int) -> nn.Sequential:
    """What follows a pooling of the whole window: a 1x1 convolution with batch norm and ReLU."""
    conv = nn.Conv2d(channels_in, channels, 1, bias=False)
    return nn.Sequential(conv, _PooledNorm(channels), nn.ReLU(inplace=True))


class _PooledNorm(nn.BatchNorm2d):
    """Batch norm that takes its running statistics where a batch is one value a channel, which
    has no deviation: a single image pooled to one pixel."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            mean, var = self.running_mean, self.running_var
            return F.batch_norm(x, mean, var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def upsampled(x: Tensor, factor: int) -> Tensor:
    """Bilinear up-sampling, align_corners=False, whose ring of half a coarse pixel is spoilt."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class Down(nn.Module):
    """Halves rows and columns: 2x2 maximum, or a 2x2 convolution of step 2.

    Returns the coarse map and, where `indices` was asked for, the place of each maximum in
    its 2x2 pixels: uint8, 0..3 in raster order.
    """

    def __init__(self, channels: int, kind: Literal["max", "stride"], *, indices: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 2, stride=2) if kind == "stride" else None
        self.indices = indices

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.conv is not None:
            return self.conv(x), None
        coarse = halved(x) if not torch.is_grad_enabled() and not x.is_cuda else F.max_pool2d(x, 2)
        return coarse, place_of_maximum(x, coarse) if self.indices else None


def halved(x: Tensor) -> Tensor:
    """The maximum of each 2x2 pixels of `x`, whose rows and columns are even, or NaN.

    As `F.max_pool2d`, which on a CPU takes twice as long: it writes eight bytes for the place of
    each maximum, whoever asks for it.
    """
    x = torch.maximum(x[..., ::2, :], x[..., 1::2, :])
    return torch.maximum(x[..., ::2], x[..., 1::2])


def place_of_maximum(x: Tensor, coarse: Tensor) -> Tensor:
    """Where in its 2x2 pixels of `x` each pixel of `coarse`, their maximum, is: uint8, 0..3 in
    raster order."""
    # By comparison: the library's indices take eight bytes each and count in the whole map,
    # so that they do not outlive cropping. In flat areas the four pixels differ by rounding
    # alone, which differs from tile to tile: they count as equal, and the first is taken.
    enough = coarse - _ROUNDING * (1 + coarse.abs())
    place = torch.full_like(coarse, 3, dtype=torch.uint8)
    for corner in (2, 1, 0):
        row, col = divmod(corner, 2)
        place.masked_fill_(x[..., row::2, col::2] >= enough, corner)
    return place


class Up(nn.Module):
    """Doubles rows and columns, from `channels_in` to `channels`.

    The outer `up_crop(kind)` pixels come from neighbours that are not there; they are part of
    the result, and the network crops them.
    """

    def __init__(self, channels_in: int, channels: int, kind: Upsampling) -> None:
        super().__init__()
        self.kind = kind
        if kind == "transposed":
            self.conv: nn.Module = nn.ConvTranspose2d(channels_in, channels, 2, stride=2)
        else:
            # On the coarse map: interpolation commutes with a 1x1 convolution, at a quarter
            # of the work.
            out = 4 * channels if kind == "pixelshuffle" else channels
            self.conv = nn.Conv2d(channels_in, out, 1)

    def forward(self, x: Tensor, place: Tensor | None) -> Tensor:
        x = self.conv(x)
        match self.kind:
            case "nearest":
                return F.interpolate(x, scale_factor=2, mode="nearest")
            case "bilinear":
                return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            case "bilinear-corners":
                return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            case "pixelshuffle":
                return F.pixel_shuffle(x, 2)
            case "unpool":
                assert place is not None
                return unpool(x, crop_to(place, x))
        return x


def up_crop(kind: Upsampling) -> int:
    """Pixels a side that `Up` spoils: 1 for interpolation, whose edge repeats the last pixel."""
    return 1 if kind.startswith("bilinear") else 0


def unpool(x: Tensor, place: Tensor) -> Tensor:
    """Max-unpooling (Zeiler et al. 2010; SegNet, arXiv:1511.00561): each value at its place.

    x: (n, channels, rows, cols). place: uint8 of the same shape, 0..3 in raster order of
    the 2x2 pixels. As `F.max_unpool2d`, but deterministic on every device. Where two
    activations are all but equal, rounding may put a value elsewhere: between two tile sizes,
    float32 scores can then differ by more than rounding, at rare pixels.
    """
    n, channels, rows, cols = x.shape
    fine = torch.empty(
        (n, channels, 2 * rows, 2 * cols),
        dtype=x.dtype,
        device=x.device,
        memory_format=torch.channels_last,
    )
    for corner in range(4):
        row, col = divmod(corner, 2)
        fine[..., row::2, col::2] = torch.where(place == corner, x, 0)
    return fine


def crop_to(x: Tensor, like: Tensor) -> Tensor:
    """The middle of `x`, as large as `like`; a view."""
    row, col = ((x.shape[axis] - like.shape[axis]) // 2 for axis in (-2, -1))
    return x[..., row : row + like.shape[-2], col : col + like.shape[-1]]


def initialise(module: nn.Module) -> None:
    """Random weights for a convolution, for `nn.Module.apply`."""
    # The paper's section 3: a Gaussian of variance 2 / (incoming nodes), for which He et al.
    # 2015 (arXiv:1502.01852) is the reference. Each pixel of a 2x2 transposed convolution of
    # step 2 has one incoming node a channel, where the library would count four.
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        weight = module.weight
        if weight.is_meta:
            # There is nothing to fill, and asking would import torch's compiler: 3 s a command.
            return
        transposed = isinstance(module, nn.ConvTranspose2d)
        incoming = weight.shape[0] if transposed else weight[0].numel()
        nn.init.normal_(weight, std=(2 / incoming) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def unsure(*heads: nn.Conv2d) -> None:
    """Begin with scores near 0, for heads of maps that nothing normalises."""
    with torch.no_grad():
        for head in heads:
            head.weight *= 0.1


def fold(network: nn.Module) -> nn.Module:
    """A copy for inference: eval mode, each BatchNorm folded into the convolution before it.

    Folded in float64, which the copy is left in, so that the rounding of the fold does not
    depend on the precision that follows.
    """
    network = copy.deepcopy(network).double().eval()
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            _fold_sequence(module)
    return network


def _fold_sequence(sequence: nn.Sequential) -> None:
    for index in reversed(range(1, len(sequence))):
        conv, norm = sequence[index - 1], sequence[index]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            sequence[index - 1] = fuse_conv_bn_eval(conv, norm)
            del sequence[index]
