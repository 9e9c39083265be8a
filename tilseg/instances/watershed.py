"""Objects of one class cut at their necks: basins of blocks, made those of the whole mask."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tilseg.ahead import ahead
from tilseg.instances.basins import Edges, join
from tilseg.instances.climb import HALO, BlockBasins, climb
from tilseg.instances.raster import NODATA, InstanceMap, Mask, Pieces
from tilseg.instances.seams import SeamWalk, Touching
from tilseg.regions.components import Connectivity, union
from tilseg.sinks.shards import BlockArray
from tilseg.window import Window


def watershed(
    mask: Mask,
    array: BlockArray,
    depth: float,
    connectivity: Connectivity,
    done: Callable[[Window], None],
) -> InstanceMap:
    """The regions of `mask`, each cut into what `basins.join` leaves of it.

    array: filled with the pieces of all blocks. depth: pixels by which an object must rise above
    its highest saddle. done: called with each block that is.
    """

    def one(window: Window) -> tuple[Window, BlockBasins, int]:
        kinds = mask.kinds(window, HALO)
        basins = climb(kinds, window, mask.grid.shape, connectivity, depth)
        array.commit(window, basins.raster)
        core = kinds[HALO:-HALO, HALO:-HALO]
        return window, basins, int(np.count_nonzero(core == NODATA))

    whole = _Whole(mask, connectivity)
    for window, basins, nodata in ahead(one, mask.grid):
        whole.add(window, basins, nodata)
        done(window)
    return whole.finish(array, depth)


class _Whole:
    """The basins of all blocks, numbered on from block to block, and what was met at seams."""

    def __init__(self, mask: Mask, connectivity: Connectivity) -> None:
        self._grid = mask.grid
        self._walk = SeamWalk(mask.grid.shape, connectivity)
        self._pieces = Pieces()
        self._peaks: list[NDArray[np.int64]] = []
        self._edges: list[Edges] = []
        # Two basins that are one, because a climb leads from the one into the other.
        self._same = [np.zeros((2, 0), np.int64)]

    def add(self, window: Window, basins: BlockBasins, nodata: int) -> None:
        base = self._pieces.count
        self._edges.append(basins.edges.shifted(base))
        self._peaks.append(basins.peak)
        self._pieces.extend(Pieces([basins.first], [basins.classes], nodata))
        for touching in self._walk.add(window, basins.sides, len(basins.first)):
            self._meet(touching)

    def _meet(self, touching: Touching) -> None:
        one, _, key, goal = touching.one
        other, _, other_key, other_goal = touching.other
        led = (goal == other_key) | (other_goal == key)
        self._same.append(np.stack([one[led], other[led]]) - 1)
        self._edges.append(Edges.between(one - 1, other - 1, key, other_key))

    def finish(self, array: BlockArray, depth: float) -> InstanceMap:
        count = self._pieces.count
        same = np.concatenate(self._same, axis=1)
        basin = union(same[0], same[1], count)
        peak = np.zeros(int(basin.max()) + 1 if count else 0, np.int64)
        np.maximum.at(peak, basin, np.concatenate(self._peaks))
        edges = Edges.concatenated(self._edges).renamed(basin)
        joined = join(peak, np.ones(len(peak), np.bool_), edges, depth)
        kept = np.ones(len(joined.peak), np.bool_)
        return self._pieces.mapped(joined.group[basin], kept, self._grid, array)
