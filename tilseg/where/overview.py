"""A small picture of a whole image: means over a grid that does not know of tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.nodata import valid_pixels
from tilseg.side_by_side import side_by_side
from tilseg.source import Source
from tilseg.window import Size, Window

# Pixels a side of what is read at once.
_STRIP = 2048


@dataclass(frozen=True, slots=True)
class Overview:
    """pixels: (rows, cols, bands) float32, means of the valid pixels, NaN where there are none.
    unread: (rows, cols) bool, where something could not be read.
    """

    pixels: NDArray[np.float32]
    unread: NDArray[np.bool_]


def overview(
    source: Source,
    bands: tuple[int, ...],
    level: int,
    shape: Size,
    without: NDArray[np.bool_] | None = None,
) -> Overview:
    """The `bands` (0-based) of a level, averaged over `shape` cells that share it out evenly.

    A coarser level of the pyramid is read where one has the pixels. Memory does not grow with
    the image. `shape` is at most that of the level. without: (rows, cols), cells of which nothing
    is to be read, nor what is read together with them.
    """
    level = coarsest(source, level, shape)
    size = source.levels[level].size
    pixels = np.full((*shape, len(bands)), np.nan, np.float32)
    unread = np.zeros(shape, np.bool_)

    def part(cells: tuple[range, range]) -> NDArray[np.floating[Any]] | None:
        if without is not None and without[np.ix_(*cells)].any():
            return None
        rows, cols = map(_edges, cells, shape, size)
        try:
            return _means(source, bands, level, rows, cols)
        except InputError:
            return None

    # Of strips as wide as the image, whole ones.
    wide = size.cols if source.levels[level].strip else _STRIP
    tall = max(1, _STRIP**2 // wide)
    parts = list(product(_parts(shape.rows, size.rows, tall), _parts(shape.cols, size.cols, wide)))
    # What is read, and a copy of it without nodata.
    bytes_each = 2 * _STRIP**2 * len(bands) * source.dtype.itemsize
    means = side_by_side(part, parts, bytes_each)
    for (down, across), found in zip(parts, means, strict=True):
        place = np.s_[down.start : down.stop, across.start : across.stop]
        if found is None:
            unread[place] = True
        else:
            pixels[place] = found
    return Overview(pixels, unread)


def coarsest(source: Source, level: int, shape: Size) -> int:
    """The coarsest level, from `level` on, that is no smaller than `shape`."""
    fits = [
        number
        for number, at in enumerate(source.levels)
        if number >= level and at.size.rows >= shape.rows and at.size.cols >= shape.cols
    ]
    return max(fits, key=lambda number: source.levels[number].row_factor)


def _parts(cells: int, pixels: int, most: int) -> Iterator[range]:
    """Runs of cells that span about `most` pixels."""
    step = max(1, most * cells // pixels)
    return (range(start, min(start + step, cells)) for start in range(0, cells, step))


def _edges(cells: range, count: int, pixels: int) -> NDArray[np.intp]:
    """Where each of the cells starts, of `count` that share out the pixels, and the last ends."""
    return np.arange(cells.start, cells.stop + 1) * pixels // count


def _means(
    source: Source,
    bands: tuple[int, ...],
    level: int,
    rows: NDArray[np.intp],
    cols: NDArray[np.intp],
) -> NDArray[np.floating[Any]]:
    """Means of the valid pixels between the edges `rows` and `cols`, NaN where there are none."""
    row, col = int(rows[0]), int(cols[0])
    window = Window(row, col, int(rows[-1]) - row, int(cols[-1]) - col)
    pixels = source.read(window, level, bands)
    valid = valid_pixels(pixels, source.nodata, source.mask(window, level))
    if valid is None:
        count = np.multiply.outer(np.diff(rows), np.diff(cols))[..., None]
    else:
        pixels = np.where(valid[..., None], pixels, 0)
        count = _sums(valid[..., None], rows - row, cols - col)
    total = _sums(pixels, rows - row, cols - col)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _sums(
    values: NDArray[Any], rows: NDArray[np.intp], cols: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Sums of (rows, cols, bands) between the edges; one row of cells after the other, so that what
    is held in float64 stays in a processor's cache."""
    lines = (values[start:stop].astype(np.float64).sum(axis=0) for start, stop in pairwise(rows))
    return np.stack([np.add.reduceat(line, cols[:-1], axis=0) for line in lines])
