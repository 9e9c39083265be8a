"""Colours for what brings none."""

from __future__ import annotations

import colorsys

# Okabe and Ito's colours, which colour-blind people tell apart too.
_FIRST = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")
_GOLDEN = 0.618033988749895


def distinct(number: int) -> str:
    """The colour "#rrggbb" of one thing of many: hues far apart, in three shades."""
    if number < len(_FIRST):
        return _FIRST[number]
    lightness = (0.42, 0.62, 0.3)[number % 3]
    parts = colorsys.hls_to_rgb(number * _GOLDEN % 1, lightness, 0.7)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)
