"""An image small, in the characters of a terminal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.style import Style
from rich.text import Text

from tilseg.look import choose_look
from tilseg.source import Source
from tilseg.where.overview import coarsest, overview
from tilseg.window import Size

# Lines of a thumbnail; each shows two dots above each other.
_LINES = 18
# Pixels that are read for one at most.
_MOST_READ = 2**22
_UPPER = "▀"


def show_thumbnail(image: Source) -> None:
    """Print the image small, where stdout is a terminal that has all colours and the image a level
    coarse enough to be read at once."""
    console = Console(highlight=False)
    if not console.is_terminal or console.color_system != "truecolor":
        return
    shape = _dots(image.shape, console.width)
    if image.levels[coarsest(image, 0, shape)].size.area > _MOST_READ:
        return
    look = choose_look(image, range(image.bands))
    pixels = overview(image, look.bands, 0, shape).pixels
    known = np.asarray(np.isfinite(pixels).all(axis=2))
    console.print(half_blocks(look.paint(pixels, known)))


def _dots(size: Size, width: int) -> Size:
    """As many as fit, of the image's proportions; a character is about twice as high as wide."""
    factor = max(1.0, size.rows / (2 * _LINES), size.cols / width)
    return Size(*(max(1, round(side / factor)) for side in size))


def half_blocks(pixels: NDArray[np.uint8]) -> Text:
    """(rows, cols, 3) colours as text of half as many lines."""
    lines = []
    for upper, lower in zip(pixels[::2], [*pixels[1::2], None], strict=False):
        line = Text()
        for col, color in enumerate(upper):
            below = None if lower is None else _hex(lower[col])
            line.append(_UPPER, Style(color=_hex(color), bgcolor=below))
        lines.append(line)
    return Text("\n").join(lines)


def _hex(color: NDArray[np.uint8]) -> str:
    return "#" + bytes(color).hex()
