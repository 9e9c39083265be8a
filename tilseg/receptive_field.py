"""What a network needs around a pixel and which input sizes it takes.

Three numbers, after the arithmetic of Ronneberger et al. 2015 (arXiv:1505.04597) made exact by
Rumberger et al. 2021 (arXiv:2101.05846): tiled inference equals whole-image inference only
where tiles sit on the pooling lattice of the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import UsageError


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """`halo`, `stride` and `offset` of a network, in pixels, the same for rows and columns.

    halo: context on each side; an input of n pixels gives an output of n - 2 halo.
    stride: the pooling lattice; equal results need inputs that start a multiple of it apart.
    offset: legal inputs are offset + k stride, for k >= 0 where some output remains.
    """

    halo: int
    stride: int
    offset: int

    def __post_init__(self) -> None:
        if self.halo < 0 or self.stride < 1 or not 0 <= self.offset < self.stride:
            raise ValueError(f"not a receptive field: {self}")

    def is_legal(self, pixels: int) -> bool:
        """Whether the network takes an input `pixels` long."""
        return pixels > 2 * self.halo and pixels % self.stride == self.offset

    def input_for(self, output: int) -> int:
        """The smallest legal input, in pixels, whose output is at least `output` long."""
        needed = output + 2 * self.halo
        return needed + (self.offset - needed) % self.stride

    def output_of(self, pixels: int) -> int:
        """Output length of a legal input of `pixels`."""
        if not self.is_legal(pixels):
            raise ValueError(f"input {pixels} is not legal for {self}")
        return pixels - 2 * self.halo

    def check_step(self, tile: int) -> None:
        """Refuse an output step that leaves the pooling lattice.

        Raises UsageError E-TILE-SIZE or E-TILE-STEP, naming the next legal steps.
        """
        if tile < 1:
            raise UsageError("E-TILE-SIZE", tile=tile, stride=self.stride)
        if tile % self.stride:
            below, above = self.step_below(tile), self.step_covering(tile)
            legal = f"{below} or {above}" if below else str(above)
            raise UsageError("E-TILE-STEP", tile=tile, stride=self.stride, legal=legal)

    def step_below(self, pixels: int) -> int:
        """The largest legal step of at most `pixels`; 0 if there is none."""
        return pixels // self.stride * self.stride

    def step_covering(self, pixels: int) -> int:
        """The smallest legal step of at least `pixels`."""
        return -(-pixels // self.stride) * self.stride


def compose(
    encoder: Sequence[int], bottleneck: int, decoder: Sequence[int], upsampling: Sequence[int]
) -> ReceptiveField:
    """The field of a valid U-shaped network of stride 2 a level, from pixels lost per block.

    encoder[i], decoder[i]: pixels (both sides together) that the block at level i takes away,
    finest level first; upsampling[i]: pixels cropped after up-sampling to level i. Losses are
    even, so that crops are symmetric.
    """
    depth = len(encoder)
    if not len(decoder) == len(upsampling) == depth:
        raise ValueError("encoder, decoder and upsampling need one entry a level")
    stride = 2**depth
    loss = stride * bottleneck + sum(
        2**i * (encoder[i] + decoder[i] + upsampling[i]) for i in range(depth)
    )
    if loss % 2 or any(lost % 2 for lost in (*encoder, bottleneck, *decoder, *upsampling)):
        raise ValueError("losses must be even, or crops are not symmetric")
    offset = sum(2**i * encoder[i] for i in range(depth)) % stride
    return ReceptiveField(halo=loss // 2, stride=stride, offset=offset)


def compose_same(
    encoder: Sequence[int], bottleneck: int, decoder: Sequence[int], upsampling: Sequence[int]
) -> ReceptiveField:
    """The field of the same network with zero-padded convolutions.

    Arguments as for `compose`, counting what each block would lose without padding. The padding
    must be out of reach of every kept block of stride x stride pixels: the reach of its first
    pixel is followed down to the bottleneck and back up to the input, then rounded up to the
    lattice (the reach of its last pixel is the mirror image).
    """
    stride = compose(encoder, bottleneck, decoder, upsampling).stride
    first = 0  # the first pixel that pixel 0 of the output needs, at the level we are on
    for lost, cropped in zip(decoder, upsampling, strict=True):
        first = (first - lost // 2 - cropped // 2) // 2
    first -= bottleneck // 2
    for lost in reversed(encoder):
        first = 2 * first - lost // 2
    return ReceptiveField(halo=-(first // stride) * stride, stride=stride, offset=0)


@dataclass(frozen=True, slots=True)
class Reach:
    """Which input pixels each pixel of a map depends on, along one axis.

    first, last: (phases,) int, of the pixels 0, 1, ... of the map. After `phases` pixels, one
    pooling lattice of `stride` input pixels further on, everything repeats. Operations that pad
    are followed as if there were pixels beyond the edge: that is where padding spoils.
    """

    stride: int
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    @classmethod
    def of_input(cls, stride: int) -> Reach:
        """An image on a lattice of `stride` pixels: each pixel depends on itself."""
        pixels = np.arange(stride)
        return cls(stride, pixels, pixels)

    def window(self, kernel: int, *, stride: int = 1, padding: int = 0, dilation: int = 1) -> Reach:
        """Through a convolution or pooling of `kernel` taps."""
        low = np.arange(len(self.first) // stride) * stride - padding
        return self._of(low, low + dilation * (kernel - 1))

    def bilinear(self, factor: int) -> Reach:
        """Through bilinear up-sampling by an even factor, align_corners=False."""
        fine = np.arange(len(self.first) * factor)
        low = (2 * fine + 1 - factor) // (2 * factor)
        return self._of(low, low + 1)

    def __or__(self, other: Reach) -> Reach:
        """A map that takes from both, as a sum or a concatenation does."""
        first, last = np.minimum(self.first, other.first), np.maximum(self.last, other.last)
        return Reach(self.stride, first, last)

    def _of(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> Reach:
        """The map whose pixel k takes this map's pixels low[k] to high[k]."""
        phases = len(self.first)
        first = self.first[low % phases] + low // phases * self.stride
        last = self.last[high % phases] + high // phases * self.stride
        return Reach(self.stride, first, last)

    @property
    def field(self) -> ReceptiveField:
        """The field of a padded network with this output, of the input's size: no block of
        stride x stride kept pixels reaches beyond the halo, which is a multiple of the stride.
        """
        beyond = max(-int(self.first.min()), int(self.last.max()) - self.stride + 1)
        halo = -(-beyond // self.stride) * self.stride
        return ReceptiveField(halo=max(0, halo), stride=self.stride, offset=0)
