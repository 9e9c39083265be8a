"""Block tables in, the regions of the whole mask out.

Components that meet across block borders are joined (union-find over border components only)
and their sums added. What a region gets depends neither on the blocks nor on the order in which
their tables come.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.regions import perimeter
from tilseg.regions.block import BlockTable
from tilseg.regions.components import Rules, union
from tilseg.regions.grid import BlockGrid
from tilseg.regions.properties import properties
from tilseg.regions.region_table import RegionTable
from tilseg.regions.seams import Seams
from tilseg.regions.sums import Sums, add, concatenate

_Columns = dict[str, NDArray[Any]]


def merge(tables: Iterable[BlockTable], grid: BlockGrid) -> RegionTable:
    """The regions of a whole mask from the tables of all its blocks, one each, in any order.

    Besides the result, memory holds the border components of all blocks and the strips of the
    blocks whose seams are not done: of two rows of blocks, when tables come in raster order.
    Raises ValueError for tables that do not belong together.
    """
    merger = _Merger(grid)
    for table in tables:
        merger.add(table)
    return merger.finish()


class _Merger:
    def __init__(self, grid: BlockGrid) -> None:
        self._grid = grid
        self._seams = Seams(grid)
        self._kind: tuple[Any, ...] = ()
        self._rules = Rules()
        # By block: which of its components are border components.
        self._border: dict[int, NDArray[np.bool_]] = {}
        self._firsts: list[NDArray[np.int64]] = []
        self._columns: list[_Columns] = []
        self._pieces: list[Sums] = []
        self._piece_count = 0
        self._background = self._nodata = 0

    def add(self, table: BlockTable) -> None:
        index = self._grid.index(table.window)
        kind = _kind(table)
        if table.shape != self._grid.shape or (self._kind and self._kind != kind):
            raise ValueError(f"the table of {table.window} was made for another mask")
        if index in self._border:
            raise ValueError(f"there are two tables of {table.window}")
        self._kind, self._rules = kind, table.rules
        self._background += table.background
        self._nodata += table.nodata
        self._border[index] = table.border
        self._keep(table.sums.take(np.flatnonzero(~table.border)))
        self._seams.add(table, self._piece_count)
        self._pieces.append(table.sums.take(np.flatnonzero(table.border)))
        self._piece_count += len(self._pieces[-1])

    def _keep(self, regions: Sums) -> None:
        self._firsts.append(regions.first)
        self._columns.append(properties(regions, self._grid.shape))

    def finish(self) -> RegionTable:
        if len(self._border) != len(self._grid):
            raise ValueError(f"{len(self._border)} tables for {len(self._grid)} blocks")
        inner = sum(len(first) for first in self._firsts)
        place = self._join()
        order = np.argsort(np.concatenate(self._firsts), kind="stable")
        self._firsts.clear()
        columns: _Columns = {"label": np.arange(1, len(order) + 1)}
        for name in list(self._columns[0]):
            columns[name] = np.concatenate([part.pop(name) for part in self._columns])[order]
        labels = np.empty(len(order), dtype=np.int64)
        labels[order] = columns["label"]
        block_labels = self._block_labels(labels[:inner], labels[inner:][place])
        skipped = (self._background, self._nodata)
        return RegionTable(columns, self._grid, self._rules, *skipped, block_labels)

    def _join(self) -> NDArray[np.int64]:
        """Keep the regions made of pieces; which of them each piece went into."""
        if not self._piece_count:
            return np.zeros(0, dtype=np.int64)
        one, other = self._seams.pairs - 1
        region = union(one, other, self._piece_count)
        pieces = concatenate(self._pieces)
        self._pieces.clear()
        self._add_seams(pieces, region)
        place = np.empty(int(region.max()) + 1, dtype=np.int64)
        done = 0
        for groups, regions in add(pieces, region):
            self._keep(regions)
            place[groups] = np.arange(done, done + len(groups))
            done += len(groups)
        return place[region]

    def _add_seams(self, pieces: Sums, region: NDArray[np.int64]) -> None:
        """Add the neighbourhoods met along seams to the pieces they were met by."""
        by_id = np.concatenate([[-1], region])
        for tally, settle, table in (
            (self._seams.windows, perimeter.settle_windows, pieces.windows),
            (self._seams.pixels, perimeter.settle_pixels, pieces.pixels),
        ):
            ids, codes, signs = settle(tally.open, by_id)
            np.add.at(table, (ids - 1, codes), signs)
            tally.add_to(table)

    def _block_labels(
        self, inner: NDArray[np.int64], pieces: NDArray[np.int64]
    ) -> dict[int, NDArray[np.int64]]:
        """Region of each component, by block, from those of all components of either sort."""
        found = {}
        inner_done = pieces_done = 0
        for index, border in self._border.items():
            labels = np.empty(len(border), dtype=np.int64)
            pieces_stop = pieces_done + int(np.count_nonzero(border))
            inner_stop = inner_done + len(border) - (pieces_stop - pieces_done)
            labels[border] = pieces[pieces_done:pieces_stop]
            labels[~border] = inner[inner_done:inner_stop]
            found[index] = labels
            inner_done, pieces_done = inner_stop, pieces_stop
        return found


def _kind(table: BlockTable) -> tuple[Any, ...]:
    """What tables of one mask have in common."""
    sums = table.sums
    return (
        table.rules,
        sums.bands.shape[1],
        sums.bands.dtype,
        sums.world.shape[1],
        sums.hull is None,
    )
