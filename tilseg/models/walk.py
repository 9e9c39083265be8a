"""How far a padded network reaches, by walking through it: nothing is declared that could be wrong.

A `Step` goes through the network's own `forward` in place of a tensor and notes at each layer
which input pixels are reached (Araujo et al. 2019, doi:10.23915/distill.00021, for pixels on a
lattice).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tilseg.receptive_field import Reach, ReceptiveField

_POOLED = "a pooling of the whole window"
_CORNERS = "bilinear up-sampling with align_corners=True"


def receptive_field(network: nn.Module, stride: int, halo: int = 0) -> tuple[ReceptiveField, str]:
    """The field of a padded network whose lattice is `stride`, and what makes it inexact, or "".

    halo: pixels of context to make do with, rounded up to the lattice; 0 for all it reaches.
    What is pooled over the whole window has no part in the halo.

    Raises NotImplementedError for a layer without a rule here.
    """
    training = network.training
    with torch.no_grad():
        found = network.eval()(Step(Reach.of_input(stride)))
    network.train(training)
    full: ReceptiveField = found.reach.field
    reasons = sorted(found.reasons)
    if 0 < halo < full.halo:
        halo = -(-halo // stride) * stride
        reasons.append(f"a halo of {halo:,} pixels where the network reaches {full.halo:,}")
        full = ReceptiveField(halo, stride, 0)
    return full, " and ".join(reasons)


class Step:
    """A map of the network: what it reaches, None where that is the whole window."""

    shape = (1, 1, 0, 0)

    def __init__(self, reach: Reach | None, reasons: frozenset[str] = frozenset()) -> None:
        self.reach = reach
        self.reasons = reasons

    def dim(self) -> int:
        return 4

    def __add__(self, other: Step) -> Step:
        return _join([self, other])

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Step:
        if func not in _RULES:
            raise NotImplementedError(f"no rule for the reach of {func}")
        return _RULES[func](*args, **(kwargs or {}))


def _same(x: Step, *_: Any, **__: Any) -> Step:
    return x


def _moved(x: Step, move: Callable[[Reach], Reach], *reasons: str) -> Step:
    return Step(None if x.reach is None else move(x.reach), x.reasons | set(reasons))


def _conv(
    x: Step,
    weight: torch.Tensor,
    bias: Any = None,  # noqa: ARG001
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,  # noqa: ARG001
) -> Step:
    kernel = tuple(weight.shape[-2:])
    if padding == "same":
        padding = _one(dilation) * (_one(kernel) - 1) // 2
    return _window(x, kernel, stride, padding, dilation)


def _window(
    x: Step,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    **_: Any,
) -> Step:
    kernel, step, beside, apart = map(
        _one, (kernel_size, kernel_size if stride is None else stride, padding, dilation)
    )
    return _moved(x, lambda r: r.window(kernel, stride=step, padding=beside, dilation=apart))


def _one(value: Any) -> int:
    """Of a number for both axes, or one each: they are alike here."""
    if isinstance(value, int):
        return value
    one, other = value
    if one != other:
        raise NotImplementedError(f"rows and columns differ: {value}")
    return int(one)


def _interpolate(
    x: Step,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: Any = None,
    **_: Any,
) -> Step:
    if x.reach is not None and (size is not None or mode != "bilinear"):
        raise NotImplementedError(f"{mode} up-sampling to a size of {size}")
    reasons = [_CORNERS] if align_corners else []
    return _moved(x, lambda reach: reach.bilinear(int(scale_factor)), *reasons)


def _pool_all(x: Step, *_: Any, **__: Any) -> Step:
    return Step(None, x.reasons | {_POOLED})


def _join(parts: Sequence[Step], dim: int = 1) -> Step:  # noqa: ARG001
    joined: Reach | None = None
    for part in parts:
        if part.reach is not None:
            joined = part.reach if joined is None else joined | part.reach
    return Step(joined, frozenset().union(*(part.reasons for part in parts)))


_RULES: dict[Any, Callable[..., Step]] = {
    F.conv2d: _conv,
    torch.max_pool2d: _window,
    F.max_pool2d: _window,
    F.interpolate: _interpolate,
    F.adaptive_avg_pool2d: _pool_all,
    torch.cat: _join,
    **dict.fromkeys([F.batch_norm, F.relu, F.dropout, F.dropout2d], _same),
}
