"""Curves of a training as coordinates for a drawing of 480 x 280 units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 480, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 34
# Okabe and Ito's colours, which colour-blind people tell apart too; yellow is too light for a line.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_TICKS = 5


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: points as "x,y x,y", a piece of the line wherever values are known."""

    name: str
    color: str
    pieces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A titled drawing. ticks: (place, words) along either axis."""

    title: str
    lines: tuple[Line, ...]
    across: tuple[tuple[float, str], ...]
    up: tuple[tuple[float, str], ...]


def chart(
    title: str,
    steps: Sequence[int],
    curves: Mapping[str, Sequence[float | None]],
    *,
    top: float = 0.0,
) -> Chart:
    """Curves over steps from 0 on; upwards from 0, or the least value, to `top` at least."""
    known = [value for curve in curves.values() for value in curve if value is not None]
    ups = _ticks(min([0.0, *known]), max([top, *known]))
    acrosses = _ticks(0.0, max([1, *steps]))

    def x(value: float) -> float:
        share = (value - acrosses[0]) / (acrosses[-1] - acrosses[0])
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        share = (value - ups[0]) / (ups[-1] - ups[0])
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    lines = []
    for number, (name, curve) in enumerate(curves.items()):
        pieces: list[list[str]] = [[]]
        for step, value in zip(steps, curve, strict=True):
            if value is None:
                pieces.append([])
            else:
                pieces[-1].append(f"{x(step)},{y(value)}")
        joined = tuple(" ".join(piece) for piece in pieces if piece)
        lines.append(Line(name, _COLORS[number % len(_COLORS)], joined))
    return Chart(
        title,
        tuple(lines),
        tuple((x(tick), f"{tick:,g}") for tick in acrosses),
        tuple((y(tick), f"{tick:.5g}") for tick in ups),
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that hold both, some five of them."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / _TICKS))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= _TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]
