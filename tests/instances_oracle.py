"""Instances of a whole mask from their definitions, in plain Python; and by tilseg in blocks."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial.distance import cdist
from skimage.measure import label
from skimage.morphology import local_maxima, reconstruction

from tilseg.georef import Georef
from tilseg.instance_rule import Border, InstanceRule, Watershed
from tilseg.instances import find_instances
from tilseg.plan import RegionOptions
from tilseg.regions import BlockGrid
from tilseg.regions.measuring import Measuring
from tilseg.window import Size, Window

_AHEAD = ((0, 1), (1, 0), (1, 1), (1, -1))
_FOOTPRINTS = {1: np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]]), 2: np.ones((3, 3))}


def in_blocks(
    mask: NDArray[Any], rule: InstanceRule, block: tuple[int, int], connectivity: int = 2
) -> NDArray[np.uint32]:
    """The instance of every pixel, as tilseg finds it."""
    options = RegionOptions(connectivity=4 if connectivity == 1 else 8, instances=rule)
    grid = BlockGrid(Size(*mask.shape), Size(*mask.shape))
    measuring = Measuring.on(Georef(), grid, options, nodata=255, background=0)
    with tempfile.TemporaryDirectory() as folder:
        found = find_instances(
            lambda window: mask[window.slices],
            measuring,
            rule,
            Path(folder, "instances"),
            block=Size(*block),
        )
        return found.read(Window.whole(grid.shape))


def whole(mask: NDArray[Any], rule: InstanceRule, connectivity: int = 2) -> NDArray[np.int64]:
    """The same from the definition, on the whole mask."""
    if isinstance(rule, Watershed):
        return watershed_cut(mask, rule.depth, connectivity)
    return grown(mask, rule, connectivity)


def heights(mask: NDArray[Any], value: int) -> NDArray[np.float64]:
    """Distance of the pixels of a class from all others and from what is outside, at most 64."""
    framed = np.pad(mask == value, 1)
    return np.minimum(distance_transform_edt(framed)[1:-1, 1:-1], 64)


def watershed_cut(mask: NDArray[Any], depth: float, connectivity: int) -> NDArray[np.int64]:
    """Kruskal's maximum spanning forest of the pixels of each class, rooted in its h-maxima."""
    parent = {}
    found = np.zeros(mask.shape, np.int64)
    for value in set(np.unique(mask).tolist()) - {0, 255}:
        height = heights(mask, value)
        inside = [(r, c) for r, c in zip(*np.nonzero(mask == value), strict=True)]
        # Of equal height, the first in raster order is the highest.
        order = sorted(inside, key=lambda at: (height[at], -at[0], -at[1]))
        rank = {at: number for number, at in enumerate(order)}
        rooted = {max(zone, key=rank.get) for zone in maxima(mask, value, depth, connectivity)}
        parent |= {at: at for at in inside}
        edges = []
        for row, col in inside:
            for down, right in _AHEAD[: 2 * connectivity]:
                other = (row + down, col + right)
                if other in rank:
                    low, high = sorted((rank[row, col], rank[other]))
                    edges.append((low, high, (row, col), other))
        for _, _, one, other in sorted(edges, reverse=True):
            a, b = find(parent, one), find(parent, other)
            if a != b and not (a in rooted and b in rooted):
                stays, goes = (a, b) if a in rooted else (b, a)
                parent[goes] = stays
        number = {root: index for index, root in enumerate(sorted(rooted), start=found.max() + 1)}
        for at in inside:
            found[at] = number[find(parent, at)]
    return in_raster_order(found)


def find(parent: dict[Any, Any], at: Any) -> Any:
    while parent[at] != at:
        parent[at] = parent[parent[at]]
        at = parent[at]
    return at


def maxima(mask: NDArray[Any], value: int, depth: float, connectivity: int) -> list[list[Any]]:
    """The h-maxima of the heights by scikit-image: the pixels of each zone."""
    deep = -1e6
    height = np.pad(np.where(mask == value, heights(mask, value), deep), 1, constant_values=deep)
    footprint = _FOOTPRINTS[connectivity]
    filled = reconstruction(height - depth, height, "dilation", footprint=footprint)
    top = local_maxima(filled, connectivity=connectivity) & (height > deep)
    zones = label(top, connectivity=connectivity)[1:-1, 1:-1]
    return [list(zip(*np.nonzero(zones == n), strict=True)) for n in range(1, zones.max() + 1)]


def grown(mask: NDArray[Any], rule: Border, connectivity: int) -> NDArray[np.int64]:
    """Every border pixel to the nearest seed, by all distances to all pixels of seeds."""
    interior = np.where(np.isin(mask, (0, 255, rule.border)), 0, mask)
    seeds = label(interior, connectivity=connectivity)
    ids = seeds.astype(np.int64)
    at, borders = np.argwhere(seeds), np.argwhere(mask == rule.border)
    if len(at) and len(borders):
        squared = np.rint(cdist(borders, at, "sqeuclidean")).astype(np.int64)
        numbers = seeds[tuple(at.T)]
        for pixel, distances in zip(borders, squared, strict=True):
            nearest, number = min(zip(distances, numbers, strict=True))
            ids[tuple(pixel)] = number if nearest <= rule.radius**2 else 0
    pieces = label(ids, connectivity=connectivity)
    return in_raster_order(np.where(np.isin(pieces, pieces[seeds > 0]), pieces, 0))


def in_raster_order(ids: NDArray[Any]) -> NDArray[np.int64]:
    """Numbers from 1 by first pixels, 0 for 0."""
    values, first = np.unique(ids, return_index=True)
    order = values[np.argsort(first)]
    number = {value: index for index, value in enumerate(order[order > 0], start=1)} | {0: 0}
    return np.vectorize(number.get, otypes=[np.int64])(ids)


def discs(shape: tuple[int, int], count: int, radii: tuple[float, float], seed: int) -> Any:
    """A mask of discs that touch and overlap: (rows, cols) uint8 of 0 and 1."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    for _ in range(count):
        radius, row, col = rng.uniform(*radii), rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        near = [slice(max(0, int(at - radius)), int(at + radius) + 2) for at in (row, col)]
        rows, cols = np.ogrid[: shape[0], : shape[1]][0][near[0]], np.arange(shape[1])[near[1]]
        mask[tuple(near)] |= ((rows - row) ** 2 + (cols - col) ** 2 <= radius**2).astype(np.uint8)
    return mask
