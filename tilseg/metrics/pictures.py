"""Pictures of a score as PNG: the confusion matrix, bars by class, and where the maps differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tilseg.metrics import difference
from tilseg.metrics.difference import DifferenceCounter
from tilseg.metrics.score import ClassScore, Score
from tilseg.pages.encoding import png

Rgb = tuple[int, int, int]

_INK, _FAINT, _PAPER = (33, 37, 41), (134, 142, 150), (255, 255, 255)
# Okabe and Ito's colours, which colour-blind people tell apart too.
_BLUE, _ORANGE, _GREEN, _PURPLE = (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)
_BARS = (("IoU", _BLUE), ("Dice", _GREEN), ("boundary F1", _ORANGE))
_MIXED = (
    (difference.IGNORED, (222, 226, 230), "ignored"),
    (difference.BACKGROUND, (248, 249, 250), "background in both"),
    (difference.OBJECT, (150, 157, 164), "same class"),
)
_WRONG = (
    (difference.FALSE, _ORANGE, "only predicted"),
    (difference.MISSED, _BLUE, "missed"),
    (difference.CONFUSED, _PURPLE, "other class"),
)
# A single wrong pixel of a cell of a thousand is still seen.
_FAINTEST = 0.45
_LONGEST_NAME = 24
# Classes whose names fit beside a matrix.
MOST_NAMED = 12
_PAD = 24


def confusion_picture(score: Score) -> bytes:
    """The matrix, coloured by the part of each class of the truth; with numbers where they fit."""
    count = len(score.classes)
    font, side = _font(22), 110 if count <= MOST_NAMED else 16
    names = [_name(each) for each in score.classes] if count <= MOST_NAMED else []
    left = _PAD + max([_width(font, name) for name in names] + [0]) + 56
    top = _PAD + 76
    size = (left + count * side + _PAD, top + count * side + _PAD)
    image, draw = _sheet(max(size[0], left + 300), size[1])
    draw.text((left, _PAD), "predicted", _FAINT, font)
    draw.text((_PAD, top - 34), "truth", _FAINT, font)
    for row, counts in enumerate(score.confusion):
        total = sum(counts)
        for col, pixels in enumerate(counts):
            share = pixels / total if total else 0.0
            box = (left + col * side, top + row * side)
            fill = _between(_PAPER, _BLUE if row == col else _ORANGE, share)
            draw.rectangle((*box, box[0] + side - 2, box[1] + side - 2), fill)
            if names and pixels:
                ink = _PAPER if share > 0.62 else _INK
                middle = (box[0] + side // 2, box[1] + side // 2)
                draw.text((middle[0], middle[1] - 16), f"{100 * share:.1f} %", ink, font, "mm")
                draw.text((middle[0], middle[1] + 18), _short(pixels), ink, _font(18), "mm")
    for place, name in enumerate(names):
        centre = place * side + side // 2
        draw.text((left - 12, top + centre), name, _INK, font, "rm")
        draw.text((left + centre, top - 8), name[:9], _INK, _font(18), "ms")
    return png(np.asarray(image))


def bars_picture(score: Score) -> bytes:
    """IoU, Dice and boundary F1 of every class."""
    font, bar, long = _font(22), 22, 620
    names = [_name(each) for each in score.classes]
    left = _PAD + max(_width(font, name) for name in names) + 16
    step = bar * len(_BARS) + 24
    image, draw = _sheet(left + long + 110, 2 * _PAD + 40 + step * len(names))
    _key(draw, (left, _PAD), [(label, color) for label, color in _BARS])
    for place, each in enumerate(score.classes):
        top = _PAD + 48 + place * step
        draw.text((left - 12, top + bar * len(_BARS) // 2), names[place], _INK, font, "rm")
        figures = (each.iou, each.dice, each.boundary_f1)
        for line, (value, (_, color)) in enumerate(zip(figures, _BARS, strict=True)):
            y = top + line * bar
            draw.rectangle((left, y, left + long, y + bar - 4), (241, 243, 245))
            if value:
                draw.rectangle((left, y, left + round(long * value), y + bar - 4), color)
            text = "-" if value is None else f"{value:.3f}"
            draw.text((left + long + 10, y + bar // 2 - 2), text, _INK, _font(18), "lm")
    return png(np.asarray(image))


def difference_picture(counts: DifferenceCounter) -> bytes:
    """Where the maps agree, in greys, and where they differ, in colours, each cell by its parts."""
    pixels = _painted(counts.cells)
    grow = max(1, 900 // max(pixels.shape[:2]))
    shown = Image.fromarray(pixels.repeat(grow, 0).repeat(grow, 1))
    image, draw = _sheet(max(shown.width, 520) + 2 * _PAD, shown.height + 2 * _PAD + 76)
    image.paste(shown, (_PAD, _PAD))
    low = _PAD + shown.height + 14
    for line, kinds in enumerate((_WRONG, _MIXED)):
        _key(draw, (_PAD, low + 36 * line), [(label, color) for _, color, label in kinds])
    return png(np.asarray(image))


def _painted(cells: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(kinds, rows, cols) counts -> (rows, cols, 3) colours."""
    parts = cells / np.maximum(cells.sum(axis=0), 1)
    right = _blend(parts, _MIXED)
    wrong = _blend(parts, _WRONG)
    share = parts[[kind for kind, _, _ in _WRONG]].sum(axis=0)[..., None]
    opacity = np.where(share > 0, np.maximum(share, _FAINTEST), 0.0)
    mixed = right * (1 - opacity) + wrong * opacity
    return np.asarray(np.rint(mixed), np.uint8)


def _blend(
    parts: NDArray[np.float64], kinds: Sequence[tuple[int, Rgb, str]]
) -> NDArray[np.float64]:
    """The mean of the colours of some kinds, weighted by their parts: (rows, cols, 3)."""
    weights = parts[[kind for kind, _, _ in kinds]]
    colors = np.array([color for _, color, _ in kinds], np.float64)
    total = np.maximum(weights.sum(axis=0), 1e-12)
    mixed: NDArray[np.float64] = np.tensordot(weights / total, colors, axes=(0, 0))
    return mixed


def _key(draw: ImageDraw.ImageDraw, place: tuple[int, int], entries: list[tuple[str, Rgb]]) -> None:
    x, y = place
    font = _font(20)
    for label, color in entries:
        draw.rectangle((x, y + 2, x + 20, y + 22), color, outline=_FAINT)
        draw.text((x + 28, y + 12), label, _INK, font, "lm")
        x += 28 + _width(font, label) + 36


def _sheet(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (width, height), _PAPER)
    return image, ImageDraw.Draw(image)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _width(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> int:
    return round(font.getlength(text))


def _name(of: ClassScore) -> str:
    name = of.name or f"class {of.value}"
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _short(pixels: int) -> str:
    """12345678 -> 12.3 M"""
    for power, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if pixels >= power:
            return f"{pixels / power:.3g}{unit}"
    return str(pixels)


def _between(low: Rgb, high: Rgb, share: float) -> Rgb:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(low, high, strict=True))
    return red, green, blue
