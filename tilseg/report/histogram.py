"""How a measure of regions is spread, as the bars of a small chart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BINS = 24


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of values between equal steps, of their logarithms where `log`.

    low, high: ends of the axis. counts: one a bar. ticks: (place from 0 to 1, number) along the
    axis. values: how many there are; least, median, most: of them.
    """

    low: float
    high: float
    log: bool
    counts: tuple[int, ...]
    ticks: tuple[tuple[float, str], ...]
    values: int
    least: float
    median: float
    most: float

    @property
    def middle(self) -> float:
        """Place of the median, from 0 to 1."""
        return _place(self.median, self.low, self.high, self.log)


def histogram(values: NDArray[Any], *, log: bool) -> Histogram | None:
    """Of the finite `values` (n,), the positive ones where `log`; None where there are none."""
    kept = values[np.isfinite(values)].astype(np.float64)
    kept = kept[kept > 0] if log else kept
    if not len(kept):
        return None
    least, most = float(kept.min()), float(kept.max())
    low, high = _ends(least, most, log)
    edges = np.geomspace(low, high, _BINS + 1) if log else np.linspace(low, high, _BINS + 1)
    # Rounding may put an outer edge inside.
    edges[[0, -1]] = min(low, least), max(high, most)
    counts, _ = np.histogram(kept, edges)
    ticks = tuple(
        (_place(tick, low, high, log), f"{tick:,.10g}") for tick in _ticks(low, high, log)
    )
    median = float(np.median(kept))
    bars = tuple(map(int, counts))
    return Histogram(low, high, log, bars, ticks, len(kept), least, median, most)


def _ends(least: float, most: float, log: bool) -> tuple[float, float]:
    """The ends of an axis that holds both; they differ."""
    if log:
        return (least, most) if most > 1.5 * least else (least / 2, most * 2)
    room = max(abs(most), 1.0) / 2
    return (least, most) if most > least else (least - room, most + room)


def _place(value: float, low: float, high: float, log: bool) -> float:
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _ticks(low: float, high: float, log: bool) -> list[float]:
    """A few round numbers from `low` to `high`."""
    if not log:
        step = nice((high - low) / 2)
        return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    if last - first >= 2:
        return [10.0**power for power in range(first, last + 1, -(-(last - first) // 5))]
    tens = range(first - 1, last + 1)
    rounds = [factor * 10.0**power for power in tens for factor in (1, 2, 5)]
    return [value for value in rounds if low <= value <= high]


def nice(length: float) -> float:
    """The largest of 1, 2, 5, 10, ... and their tenths that is at most `length`."""
    power = 10.0 ** math.floor(math.log10(length))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= length * (1 + 1e-12))
