"""Image, mask and outlines of one place as pictures that lie over each other."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.card import Card
from tilseg.nodata import NODATA
from tilseg.pages.encoding import overlay, photograph
from tilseg.sinks.ngff import rgb
from tilseg.window import Size

NODATA_COLOR = "#adb5bd"


@dataclass(frozen=True, slots=True)
class Layers:
    """Picture files of a place of `size` pixels; all but `image` are see-through."""

    size: Size
    image: bytes
    mask: bytes
    outlines: bytes


@dataclass(frozen=True, slots=True)
class Painter:
    """Paints class values of up to 255 classes in the colours of a card."""

    fill: NDArray[np.uint8]
    line: NDArray[np.uint8]

    @classmethod
    def of(cls, card: Card) -> Painter:
        """Background is see-through; what has no data is grey, without an outline."""
        fill = np.zeros((256, 4), np.uint8)
        fill[: len(card.classes)] = [(*rgb(each.color), 255) for each in card.classes]
        if card.background is not None:
            fill[card.background, 3] = 0
        line = fill.copy()
        fill[NODATA] = (*rgb(NODATA_COLOR), 255)
        return cls(fill, line)

    def layers(
        self,
        image: NDArray[np.uint8],
        values: NDArray[np.uint8],
        numbers: NDArray[Any],
        *,
        scale: int,
        most: tuple[int, int],
    ) -> Layers:
        """Pictures of one place.

        image: (rows, cols, 3) colours. values: (rows, cols) of classes. numbers: (rows, cols), an
        outline is where these change. scale: dots of an outline's picture along a pixel, to draw
        it fine, if that fits. most: bytes of the image, and of each of the two others.
        """
        return Layers(
            Size(*values.shape),
            photograph(image, most[0]),
            overlay(values, self.fill, most[1]),
            self._outlines(values, numbers, scale, most[1]),
        )

    def _outlines(
        self, values: NDArray[np.uint8], numbers: NDArray[Any], scale: int, most: int
    ) -> bytes:
        """As fine as it fits in `most` bytes."""
        shown, edges = _grown(values, scale), inner_edges(_grown(numbers, scale))
        lines = np.where(edges, shown, np.uint8(NODATA))
        content = overlay(lines, self.line, most if scale == 1 else sys.maxsize)
        if len(content) <= most:
            return content
        return self._outlines(values, numbers, scale // 2, most)


def _grown(values: NDArray[Any], scale: int) -> NDArray[Any]:
    return values.repeat(scale, axis=0).repeat(scale, axis=1)


def inner_edges(numbers: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels with a neighbour above, below, left or right of another number: (rows, cols)."""
    edges = np.zeros(numbers.shape, np.bool_)
    for axis in (0, 1):
        along, marks = numbers.swapaxes(0, axis), edges.swapaxes(0, axis)
        changes = along[1:] != along[:-1]
        marks[1:] |= changes
        marks[:-1] |= changes
    return edges
