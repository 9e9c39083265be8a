"""Convolutions on large maps, some rows at a time: only a few are needed between two of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

# Of the result at a time, at most. Every strip computes again what two of them share between the
# convolutions: 2 of 130 rows for a block of two.
ROWS = 128


def in_strips(block: Callable[[Tensor], Tensor], maps: Sequence[Tensor], lost: int) -> Tensor:
    """`block` of the channels of all `maps` (n, channels, rows, cols), joined.

    block: takes `lost` rows off, and computes a row of its result in the same way wherever its
    input begins, as convolutions without padding do. The result is that of the whole maps at
    once, and should have few channels: it is copied.
    """
    rows = maps[0].shape[-2] - lost
    # All about as high: for a map of a few rows the library may compute a pixel in another order.
    count = -(-rows // ROWS)
    bounds = [rows * place // count for place in range(count + 1)]
    strips = [slice(begin, end + lost) for begin, end in pairwise(bounds)]
    made = [block(joined([each[..., strip, :] for each in maps])) for strip in strips]
    return torch.cat(made, dim=-2)


def joined(maps: Sequence[Tensor]) -> Tensor:
    """The channels of all `maps`, of one size, in one map."""
    return maps[0] if len(maps) == 1 else torch.cat(list(maps), dim=1)
