"""The whole image small: what it shows, its mask, and where it was not segmented."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilseg.journal import DIED, BlockRecord
from tilseg.look import GROUND, Look
from tilseg.pages.encoding import overlay
from tilseg.plan import TileGrid
from tilseg.report.layers import Layers, Painter, inner_edges
from tilseg.selection import TissueMask
from tilseg.sinks.zarr import MaskStore
from tilseg.source import Source
from tilseg.where.overview import coarsest, overview
from tilseg.window import Size, Window

# Dots along the longer side, if the image has as many pixels.
_LONGEST = 1200
# An image without a pyramid is read whole for its overview, if it has no more pixels or the network
# was asked for as many.
_MOST_READ = 2**29
_IMAGE_BYTES, _MASK_BYTES, _WHERE_BYTES = 400_000, 250_000, 60_000
_TISSUE = np.array([[0, 0, 0, 0], [255, 255, 255, 150], [0, 70, 140, 255]], np.uint8)
_SKIPPED = np.array([[0, 0, 0, 0], [33, 37, 41, 130], [255, 255, 255, 130]], np.uint8)
_STRIPE = 4


@dataclass(frozen=True, slots=True)
class Overview:
    """layers: of all of it. tissue, skipped: PNG files to lie over them, or None. note: what the
    picture lacks, or ""."""

    layers: Layers
    tissue: bytes | None
    skipped: bytes | None
    note: str


def make_overview(
    image: Source,
    look: Look,
    mask: MaskStore,
    grid: TileGrid,
    painter: Painter,
    records: Collection[BlockRecord],
    tissue: TissueMask | None,
) -> Overview:
    """The overview of a finished mask. image: as it is, even if it was resampled for the mask."""
    shape = _shape(Size(*map(min, grid.shape, image.shape)))
    asked = sum(grid.window_at(one.index).size.area for one in records if one.skipped is None)
    deadly = np.zeros(shape, np.bool_)
    for window in windows_of_deaths(records):
        deadly[_dots(window, grid.shape, shape)] = True
    colors, note = _image(image, look, shape, max(asked, _MOST_READ), deadly)
    values = overview_values(mask, shape)
    return Overview(
        painter.layers(colors, values, values, scale=1, most=(_IMAGE_BYTES, _MASK_BYTES)),
        None if tissue is None else _tissue(tissue, shape),
        _skipped(grid, records, shape),
        note,
    )


def windows_of_deaths(records: Iterable[BlockRecord]) -> list[Window]:
    """Tiles of the grid that killed whatever process read or computed them."""
    return [tile.window for record in records for tile in record.bad if tile.reason == DIED]


def _shape(size: Size) -> Size:
    factor = max(1.0, max(size) / _LONGEST)
    return Size(*(max(1, round(side / factor)) for side in size))


def _image(
    image: Source, look: Look, shape: Size, most_read: int, without: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], str]:
    """(rows, cols, 3) colours, and what they lack."""
    if image.levels[coarsest(image, 0, shape)].size.area > most_read:
        plain = np.full((*shape, 3), GROUND, np.uint8)
        return plain, "The image has no coarse levels to show here, so this is the mask alone."
    found = overview(image, look.bands, 0, shape, without)
    known = np.asarray(np.isfinite(found.pixels).all(axis=2))
    note = "Parts of the image could not be read." if found.unread.any() else ""
    return look.paint(found.pixels, known), note


def overview_values(mask: MaskStore, shape: Size) -> NDArray[np.uint8]:
    """The class of the pixel in the middle of each dot."""
    fits = (n for n, at in enumerate(mask.levels) if _holds(at.size, shape))
    level = max(fits, default=0)
    size = mask.levels[level].size
    rows, cols = (
        np.minimum((2 * np.arange(count) + 1) * side // (2 * count), side - 1)
        for count, side in zip(shape, size, strict=True)
    )
    values: NDArray[np.uint8] = mask.read(Window.whole(size), level)[np.ix_(rows, cols)]
    return values


def _holds(size: Size, shape: Size) -> bool:
    return size.rows >= shape.rows and size.cols >= shape.cols


def _tissue(mask: TissueMask, shape: Size) -> bytes:
    pixels = mask.pixels
    rows, cols = (
        (2 * np.arange(count) + 1) * side // (2 * count)
        for count, side in zip(shape, pixels.shape, strict=True)
    )
    outside = ~pixels[np.ix_(rows, cols)]
    values = np.where(inner_edges(outside) & ~outside, 2, outside).astype(np.uint8)
    return overlay(values, _TISSUE, _WHERE_BYTES)


def _skipped(grid: TileGrid, records: Collection[BlockRecord], shape: Size) -> bytes | None:
    """Stripes over the blocks that the network was not asked for; None where there are none."""
    found = np.zeros(shape, np.bool_)
    for record in records:
        if record.skipped is not None:
            window = grid.window_at(record.index)
            found[_dots(window, grid.shape, shape)] = True
    if not found.any():
        return None
    row, col = np.indices(shape, sparse=True)
    stripes = 1 + (row + col) // _STRIPE % 2
    return overlay(np.where(found, stripes, 0).astype(np.uint8), _SKIPPED, _WHERE_BYTES)


def _dots(window: Window, size: Size, shape: Size) -> tuple[slice, slice]:
    """Where a window of an image of `size` lies on a picture of `shape`."""
    starts, stops = (window.row, window.col), (window.row_stop, window.col_stop)
    rows, cols = (
        slice(start * count // side, -(-stop * count // side))
        for start, stop, side, count in zip(starts, stops, size, shape, strict=True)
    )
    return rows, cols
