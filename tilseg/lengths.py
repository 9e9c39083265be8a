"""Lengths with their units, as pixel sizes are written: 0.5um, 250nm, 10m, 0.0001degree."""

from __future__ import annotations

import re
from fractions import Fraction

# Each in metres. Fractions, so that 250 nm are 0.25 um to the last bit.
_METRES = {
    "nm": Fraction(1, 10**9),
    "um": Fraction(1, 10**6),
    "mm": Fraction(1, 10**3),
    "cm": Fraction(1, 10**2),
    "m": Fraction(1),
    "km": Fraction(10**3),
    "foot": Fraction(3048, 10**4),
    "US survey foot": Fraction(1200, 3937),
}
_WRITTEN = re.compile(
    r"(?P<value>\d+(\.\d*)?([eE][-+]?\d+)?|\.\d+) ?(?P<unit>nm|um|µm|μm|mm|cm|m|km|degree)?"
)
LENGTH_FORM = "a number, or one with its unit: 0.5um, 250nm, 30cm, 10m, 0.0001degree"


def parse_length(text: object) -> tuple[float, str | None] | None:
    """Value and unit ("um", ..., "degree", None where there is none), or None if it is no size."""
    found = _WRITTEN.fullmatch(str(text).strip())
    if found is None:
        return None
    value, unit = float(found["value"]), found["unit"]
    return (value, unit and unit.replace("µ", "u").replace("μ", "u")) if 0 < value < 1e9 else None


def convert(value: float, unit: str, into: str) -> float | None:
    """`value` in the unit `into`, correctly rounded; None where one of them is no length."""
    if unit == into:
        return value
    if unit not in _METRES or into not in _METRES:
        return None
    return float(Fraction(value) * _METRES[unit] / _METRES[into])
