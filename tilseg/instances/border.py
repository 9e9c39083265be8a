"""Objects that the network keeps apart by a border class, grown back into it.

The interior pixels of a class that touch are a seed. A pixel of the border class belongs to the
seed nearest to it, by the squared distance from pixel to pixel, if that is within `radius`; of
seeds at one distance to the first in raster order. What of a seed's pixels does not touch it, by
way of its own pixels, is no part of the object.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.ahead import ahead
from tilseg.instances.raster import NODATA, InstanceMap, Mask, Pieces, Store
from tilseg.instances.seams import SeamWalk, Sides
from tilseg.regions.components import Connectivity, Rules, components, first_index, union
from tilseg.window import Window

_Labels = NDArray[np.integer[Any]]
# Of a block: values of which every component is a piece, the pixels that make one count, and
# how many have no data.
_Block = tuple[_Labels, NDArray[np.bool_], int]


def grown_back(
    mask: Mask,
    arrays: Sequence[Store],
    radius: int,
    border: int,
    connectivity: Connectivity,
    done: Callable[[Window], None],
) -> InstanceMap:
    """Instances of the interior classes of `mask`: all but `border` that form objects.

    arrays: two, filled with the seeds and with the pieces of all blocks. radius: pixels by which seeds
    grow. done: called with each block that is, twice.
    """
    seed_array, array = arrays

    def inner(window: Window) -> _Block:
        kinds = mask.kinds(window)
        nodata = int(np.count_nonzero(kinds == NODATA))
        kinds[(kinds == border + 1) | (kinds == NODATA)] = 0
        return kinds, kinds > 0, nodata

    seeds = _joined(mask, seed_array, inner, lambda kind: kind - 1, connectivity, done)

    def grown(window: Window) -> _Block:
        inside, kinds = _framed(seeds, window, radius), mask.kinds(window)
        core = Window(radius, radius, *window.size).slices
        nodata = int(np.count_nonzero(kinds == NODATA))
        return grow(inside, kinds == border + 1, radius), inside[core] > 0, nodata

    return _joined(mask, array, grown, lambda seed: seeds.classes[seed], connectivity, done)


def _joined(
    mask: Mask,
    array: Store,
    block: Callable[[Window], _Block],
    class_of: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    connectivity: Connectivity,
    done: Callable[[Window], None],
) -> InstanceMap:
    """The components of equal values of all blocks, joined over the seams, that hold a pixel
    which makes one count. class_of: of the objects with these values."""
    rules = Rules(None, 0, connectivity)

    def one(window: Window) -> tuple[Window, Pieces, Sides, NDArray[np.bool_]]:
        values, counting, nodata = block(window)
        parts = components(values, rules)
        painted = parts.paint(np.arange(1, len(parts) + 1, dtype=np.uint32))
        raster = np.ascontiguousarray(painted.reshape(-1, parts.stride)[1:-1, 1:-1])
        array.commit(window, raster)
        counts = np.zeros(len(parts) + 1, np.bool_)
        counts[raster[counting]] = True
        first = first_index(parts.member)
        place = (parts.rows[first] + window.row) * mask.grid.shape.cols
        place += parts.cols[first] + window.col
        pieces = Pieces([place], [class_of(parts.classes)], nodata)
        return window, pieces, Sides.of(raster, values), counts[1:]

    walk, whole = SeamWalk(mask.grid.shape, connectivity), Pieces()
    pairs, counting = [np.zeros((2, 0), np.int64)], [np.zeros(0, np.bool_)]
    for window, pieces, sides, counts in ahead(one, mask.grid):
        for touching in walk.add(window, sides, len(counts)):
            pairs.append(np.stack([touching.one[0], touching.other[0]]) - 1)
        whole.extend(pieces)
        counting.append(counts)
        done(window)
    one_end, other_end = np.concatenate(pairs, axis=1)
    group = union(one_end, other_end, whole.count)
    kept = np.zeros(int(group.max(initial=-1)) + 1, np.bool_)
    np.logical_or.at(kept, group, np.concatenate(counting))
    return whole.mapped(group, kept, mask.grid, array)


def _framed(seeds: InstanceMap, window: Window, halo: int) -> NDArray[np.uint32]:
    """Seeds of a window and `halo` pixels round it, 0 outside the image."""
    size = (window.rows + 2 * halo, window.cols + 2 * halo)
    wide = Window(window.row - halo, window.col - halo, *size)
    inside = wide.intersection(Window.whole(seeds.grid.shape))
    framed = np.zeros(size, np.uint32)
    framed[inside.relative_to(wide).slices] = seeds.read(inside)
    return framed


def grow(seeds: NDArray[np.uint32], border: NDArray[np.bool_], radius: int) -> NDArray[np.uint32]:
    """Seeds of a block after they have grown into the pixels `border`: (rows, cols).

    seeds: the block with `radius` pixels more on each side; 0 for none.
    """
    stride, flat = seeds.shape[1], seeds.ravel()
    rows, cols = border.shape
    grown = seeds[radius : radius + rows, radius : radius + cols].copy()
    waiting = np.flatnonzero(border)
    at = (waiting // cols + radius) * stride + waiting % cols + radius
    for steps in _rings(radius):
        # As 0 - 1 wraps round, no seed is the last in order.
        nearest = np.full(len(at), np.iinfo(np.uint32).max)
        for row, col in steps:
            np.minimum(nearest, flat[at + row * stride + col] - np.uint32(1), out=nearest)
        met = nearest < np.iinfo(np.uint32).max
        grown.ravel()[waiting[met]] = nearest[met] + 1
        waiting, at = waiting[~met], at[~met]
    return grown


def _rings(radius: int) -> Iterator[list[tuple[int, int]]]:
    """Steps to the pixels 1 to `radius` away, those at one distance together, nearest first."""
    span = range(-radius, radius + 1)
    steps = sorted((r * r + c * c, r, c) for r in span for c in span)
    near = (step for step in steps if 0 < step[0] <= radius * radius)
    for _, ring in itertools.groupby(near, key=lambda step: step[0]):
        yield [(row, col) for _, row, col in ring]
