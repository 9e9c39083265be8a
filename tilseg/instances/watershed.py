"""Objects of one class cut at their necks: basins of blocks, made those of the whole mask."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tilseg.ahead import ahead
from tilseg.instances.basins import Edges, join
from tilseg.instances.climb import HALO, BlockBasins, climb
from tilseg.instances.raster import NODATA, InstanceMap, Mask, Pieces, Store
from tilseg.instances.seams import SeamWalk, Touching
from tilseg.regions.components import Connectivity, first_index, union
from tilseg.window import Window


def watershed(
    mask: Mask,
    array: Store,
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

    whole = _Whole(mask, connectivity, depth)
    for window, basins, nodata in ahead(one, mask.grid):
        whole.add(window, basins, nodata)
        done(window)
    return whole.finish(array)


class _Whole:
    """The basins of all blocks, numbered on from block to block.

    After each row of blocks the basins are joined as far as the image above can tell. `_live`, in
    ascending order, are those that may still change: they touch the row to come, or one that does.
    All others have gone into the basin that `_into` names, or are done.
    """

    def __init__(self, mask: Mask, connectivity: Connectivity, depth: float) -> None:
        self._grid = mask.grid
        self._depth = depth
        self._walk = SeamWalk(mask.grid.shape, connectivity)
        self._pieces = Pieces()
        self._into = np.zeros(0, np.int64)
        self._live = np.zeros(0, np.int64)
        self._peaks = [np.zeros(0, np.int64)]
        # Between live basins. Two are the same when a climb leads from the one into the other.
        self._edges: list[Edges] = []
        self._same = [np.zeros((2, 0), np.int64)]

    def add(self, window: Window, basins: BlockBasins, nodata: int) -> None:
        self._edges.append(basins.edges.shifted(self._pieces.count))
        self._peaks.append(basins.peak)
        self._pieces.extend(Pieces([basins.first], [basins.classes], nodata))
        for touching in self._walk.add(window, basins.sides, len(basins.first)):
            self._meet(touching)
        if window.col_stop == self._grid.shape.cols:
            self._settle(more=window.row_stop < self._grid.shape.rows)

    def _meet(self, touching: Touching) -> None:
        one, _, key, goal = touching.one
        other, _, other_key, other_goal = touching.other
        led = (goal == other_key) | (other_goal == key)
        self._same.append(np.stack([one[led], other[led]]) - 1)
        self._edges.append(Edges.between(one - 1, other - 1, key, other_key))

    def _settle(self, *, more: bool) -> None:
        """Join what can be joined; `more`: there is another row of blocks."""
        new = np.arange(len(self._into), self._pieces.count)
        live = np.append(self._live, new)
        if not len(live):
            return
        one, other = np.searchsorted(live, np.concatenate(self._same, axis=1))
        basin = union(one, other, len(live))
        peak = np.zeros(int(basin.max()) + 1, np.int64)
        np.maximum.at(peak, basin, np.concatenate(self._peaks))
        waiting = self._walk.waiting if more else np.zeros(0, np.int64)
        below = np.searchsorted(live, waiting[waiting > 0] - 1)
        closed = np.ones(len(peak), np.bool_)
        closed[basin[below]] = False
        edges = Edges.concatenated(self._edges)
        one, other = (basin[np.searchsorted(live, end)] for end in edges[:2])
        joined = join(peak, closed, edges._replace(one=one, other=other), self._depth)
        group = joined.group[basin]
        # A group is called by its first basin.
        name = live[first_index(group)]
        self._into = np.append(self._into, new)
        self._into[live] = name[group]
        waiting[waiting > 0] = name[group[below]] + 1
        stays = ~joined.closed
        stays[joined.edges.one] = stays[joined.edges.other] = True
        self._live, self._peaks = name[stays], [joined.peak[stays]]
        self._edges = [joined.edges.renamed(name)]
        self._same = [np.zeros((2, 0), np.int64)]

    def finish(self, array: Store) -> InstanceMap:
        into = self._into
        while (into[into] != into).any():
            into = into[into]
        named, group = np.unique(into, return_inverse=True)
        kept = np.ones(len(named), np.bool_)
        return self._pieces.mapped(group, kept, self._grid, array)
