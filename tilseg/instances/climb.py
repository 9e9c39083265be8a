"""The basins of one block: every pixel climbs to the highest pixel beside it, up to a top.

The height of a pixel is its distance from the nearest pixel of another class, from the centre of
one to that of the other, and at most `LIMIT`: so it is known from the pixels up to `LIMIT` away.
What lies outside the image is another class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    distance_transform_edt,
    find_objects,
    generate_binary_structure,
    label,
)

from tilseg.instances.basins import Edges, join, key_of
from tilseg.instances.seams import Sides
from tilseg.regions.components import Connectivity, first_index
from tilseg.window import Size, Window

LIMIT = 64
# A pixel's highest neighbour may be in the next block, where its height must be known too.
HALO = LIMIT + 1

_AHEAD = ((0, 1), (1, 0), (1, 1), (1, -1))


@dataclass(frozen=True, slots=True)
class BlockBasins:
    """Basins of one block, joined as far as the block alone can tell.

    raster: (rows, cols) uint32, basin of each pixel from 1, 0 for none. first, peak: (basins,)
    int64, place of the first pixel, key of the highest one known. classes: (basins,) int64.
    edges: between basins from 0, where one of them is open. sides: planes basin, kind, key and
    the key of the pixel where the climb leaves the block or ends.
    """

    raster: NDArray[np.uint32]
    first: NDArray[np.int64]
    peak: NDArray[np.int64]
    classes: NDArray[np.int64]
    edges: Edges
    sides: Sides


def squared_distances(kinds: NDArray[Any]) -> NDArray[np.int64]:
    """Squared heights, 0 where `kinds` (rows, cols) is 0; right where `LIMIT` from all sides."""
    squared = np.zeros(kinds.shape, np.int64)
    for value, box in enumerate(find_objects(kinds), start=1):
        if box is not None:
            # One pixel more, for what is measured to.
            wide = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
            squared[wide] += _squared_distance(kinds[wide] == value)
    return squared


def _squared_distance(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    if inside.all():
        # Nothing for scipy to measure to.
        return np.full(inside.shape, LIMIT**2)
    distance = distance_transform_edt(inside)
    squared: NDArray[np.float64] = np.minimum(np.rint(distance * distance), LIMIT**2)
    return squared.astype(np.int64)


def climb(
    kinds: NDArray[Any], window: Window, shape: Size, connectivity: Connectivity, depth: float
) -> BlockBasins:
    """The basins of the block `window` of a mask of `shape`.

    kinds: (rows + 2 HALO, cols + 2 HALO), the block with `HALO` pixels on each side; 0 where no
    object is. depth: see `basins.join`.
    """
    ring = slice(HALO - 1, 1 - HALO)
    heights = squared_distances(kinds)[ring, ring].ravel()
    flat = np.ascontiguousarray(kinds[ring, ring]).ravel()
    stride = window.cols + 2
    places = np.arange(len(flat))
    place = (places // stride + window.row - 1) * shape.cols + places % stride + window.col - 1
    key = np.where(flat > 0, key_of(heights, place), -1)
    core = np.zeros((window.rows + 2, stride), np.bool_)
    core[1:-1, 1:-1] = True
    pixels = np.flatnonzero(core.ravel() & (flat > 0))
    top = _tops(pixels, flat, heights, key, stride, connectivity)
    roots, basin = _distinct(top[pixels], len(flat))
    node = np.full(len(flat), -1)
    node[pixels] = basin
    closed = core.ravel()[roots] & ~_at_shared_side(
        node.reshape(core.shape), window, shape, len(roots)
    )
    edges = _edges(pixels, node, flat, key, stride, connectivity)
    joined = join(key[roots], closed, edges, depth)
    group = joined.group[basin]
    first = first_index(group)
    raster = np.zeros(len(flat), np.uint32)
    raster[pixels] = group + 1
    planes = (raster, flat, key, key[top])
    inner = [plane.reshape(core.shape)[1:-1, 1:-1] for plane in planes]
    return BlockBasins(
        raster=np.ascontiguousarray(inner[0]),
        first=place[pixels[first]],
        peak=joined.peak,
        classes=flat[pixels[first]].astype(np.int64) - 1,
        edges=joined.edges,
        sides=Sides.of(*inner),
    )


def _tops(
    pixels: NDArray[np.int64],
    flat: NDArray[Any],
    heights: NDArray[np.int64],
    key: NDArray[np.int64],
    stride: int,
    connectivity: Connectivity,
) -> NDArray[np.int64]:
    """(all pixels,) where the climb from each pixel of the block ends: at a top, or outside."""
    best, to, kind = key[pixels], pixels.copy(), flat[pixels]
    for rows, cols in _AHEAD[: 2 * connectivity]:
        for step in (rows * stride + cols, -rows * stride - cols):
            beside = pixels + step
            higher = (key[beside] > best) & (flat[beside] == kind)
            to[higher] = beside[higher]
            best[higher] = key[beside[higher]]
    up = np.arange(len(flat))
    up[pixels] = to
    _flatten(up, pixels[heights[pixels] == LIMIT**2], stride, connectivity)
    climbing = pixels
    while len(climbing):
        # Two climbs in one: as many rounds as the length of the longest has digits.
        further = up[up[climbing]]
        moved = further != up[climbing]
        climbing = climbing[moved]
        up[climbing] = further[moved]
    return up


def _flatten(
    up: NDArray[np.int64], highest: NDArray[np.int64], stride: int, connectivity: Connectivity
) -> None:
    """Let the pixels `highest`, which nothing exceeds, be one top wherever they touch.

    They would be joined in any case, for the saddle between them is as high as they are; but
    climbing along a flat top by places alone would give as many basins as it has rows.
    """
    if not len(highest):
        return
    there = np.zeros(len(up), np.bool_)
    there[highest] = True
    structure = generate_binary_structure(2, connectivity)
    zone = label(there.reshape(-1, stride), structure)[0].ravel()[highest] - 1
    up[highest] = highest[first_index(zone)][zone]


def _distinct(values: NDArray[np.int64], stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct of `values`, all below `stop`, in ascending order, and the place of each."""
    there = np.zeros(stop, np.bool_)
    there[values] = True
    return np.flatnonzero(there), (np.cumsum(there) - 1)[values]


def _at_shared_side(
    node: NDArray[np.int64], window: Window, shape: Size, count: int
) -> NDArray[np.bool_]:
    """Which nodes have a pixel on a side that the block shares with another."""
    found = np.zeros(count + 1, np.bool_)
    if window.row > 0:
        found[node[1]] = True
    if window.col > 0:
        found[node[:, 1]] = True
    if window.row_stop < shape.rows:
        found[node[-2]] = True
    if window.col_stop < shape.cols:
        found[node[:, -2]] = True
    # Index -1, for no node, is the last.
    return found[:-1]


def _edges(
    pixels: NDArray[np.int64],
    node: NDArray[np.int64],
    flat: NDArray[Any],
    key: NDArray[np.int64],
    stride: int,
    connectivity: Connectivity,
) -> Edges:
    """Pairs of touching pixels of the block whose nodes differ."""
    ones, others = [], []
    for rows, cols in _AHEAD[: 2 * connectivity]:
        beside = pixels + rows * stride + cols
        apart = (
            (node[beside] >= 0) & (node[beside] != node[pixels]) & (flat[beside] == flat[pixels])
        )
        ones.append(pixels[apart])
        others.append(beside[apart])
    one, other = np.concatenate(ones), np.concatenate(others)
    return Edges.between(node[one], node[other], key[one], key[other])
