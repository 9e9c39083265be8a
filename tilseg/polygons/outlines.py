"""The outlines of all regions of a mask, from its blocks, in memory that their borders decide.

Corners go to a file without a name as soon as they are found. In memory stay, of each ring and
of each arc that crosses a block's border, a few numbers, and the pixels before the next blocks.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tilseg.durable import writing
from tilseg.polygons.chains import chain
from tilseg.polygons.corners import Chains, trace
from tilseg.polygons.pieces import Rings, assemble
from tilseg.window import Size, Window

_Ints = NDArray[np.int64]

# Corners that are joined or made polygons at once, unless one region has more.
_CORNERS = 1_000_000
_BYTES = np.dtype(np.int32).itemsize * 2


class _Index(NamedTuple):
    """Of chains in the file: corners of each, place of the first, region, entry and exit."""

    counts: _Ints
    at: _Ints
    values: _Ints
    entry: _Ints
    exit: _Ints


class Outlines:
    """Traces the regions of a mask of `shape`; a context manager, which frees the disk.

    folder: where the nameless file of corners is, 8 bytes each. Raises OutputError
    E-OUTPUT-WRITE where the disk refuses it.
    """

    def __init__(self, shape: Size, folder: Path) -> None:
        self.shape = shape
        self.folder = folder
        with writing(folder):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._written = 0
        self._parts: list[_Index] = []
        # Pixels of the rows above and below the border between two rows of blocks, framed by 0.
        self._above, self._below = np.zeros((2, shape.cols + 2), dtype=np.int64)
        self._left = np.zeros(0, dtype=np.int64)
        self._rings: _Index | None = None
        self._begin = np.zeros(1, dtype=np.int64)

    def __enter__(self) -> Outlines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def trace(self, blocks: Iterable[tuple[Window, NDArray[Any]]], count: int) -> None:
        """Trace the regions 1 to `count`.

        blocks: all of the mask in raster order, each with the region of each of its pixels,
        (rows, cols) unsigned integers, 0 for none; such as those of `label_blocks`, or instances.
        """
        for window, values in blocks:
            framed = self._framed(window, values)
            self._keep(trace(framed, window.row, window.col, self.shape.cols))
        self._join()
        self._sort(count)

    def _framed(self, window: Window, values: NDArray[Any]) -> NDArray[Any]:
        """A block and the pixels before it; and 0 beyond the end of the mask."""
        rows = window.rows + 1 + (window.row_stop == self.shape.rows)
        cols = window.cols + 1 + (window.col_stop == self.shape.cols)
        framed = np.zeros((rows, cols), dtype=values.dtype)
        if window.col == 0:
            self._above, self._below = self._below, self._above
            self._left = np.zeros(window.rows, dtype=np.int64)
        framed[0] = self._above[window.col : window.col + cols]
        framed[1 : window.rows + 1, 0] = self._left
        framed[1 : window.rows + 1, 1 : window.cols + 1] = values
        self._below[window.col + 1 : window.col_stop + 1] = values[-1]
        self._left = values[:, -1].astype(np.int64)
        return framed

    def _keep(self, chains: Chains) -> None:
        """Corners to the file, the rest to memory."""
        at = self._written + np.cumsum(chains.counts) - chains.counts
        with writing(self.folder):
            self._file.seek(0, os.SEEK_END)
            self._file.write(chains.vertices.tobytes())
        self._written += len(chains.vertices)
        self._parts.append(_Index(chains.counts, at, chains.values, chains.entry, chains.exit))

    def _read(self, chosen: _Index | None, order: _Ints) -> NDArray[np.int32]:
        """(n, 2) corners of the chains `order`, one after the other."""
        assert chosen is not None
        counts, at = chosen.counts[order], chosen.at[order]
        # Neighbours in the file are read together.
        apart = np.flatnonzero(np.append(True, at[1:] != (at + counts)[:-1])[: len(at)])
        sizes = np.add.reduceat(counts, apart) if len(apart) else counts
        content = bytearray()
        with writing(self.folder):
            for first, size in zip(at[apart].tolist(), sizes.tolist(), strict=True):
                self._file.seek(first * _BYTES)
                content += self._file.read(size * _BYTES)
        return np.frombuffer(content, dtype=np.int32).reshape(-1, 2)

    def _join(self) -> None:
        """Make rings of the arcs, leaving in the index rings alone."""
        found = _Index(*map(np.concatenate, zip(*self._parts, strict=True)))
        self._parts.clear()
        is_arc = found.entry >= 0
        arcs = _Index(*(column[is_arc] for column in found))
        self._parts.append(_Index(*(column[~is_arc] for column in found)))
        by_entry = np.argsort(arcs.entry)
        following = by_entry[np.searchsorted(arcs.entry[by_entry], arcs.exit)]
        none = np.zeros(0, dtype=np.int64)
        order, starts = chain(following, none, none)
        stops = np.append(starts[1:], len(order))[: len(starts)]
        totals = np.add.reduceat(arcs.counts[order], starts) if len(starts) else starts
        for first, last in batches(totals):
            chosen = order[starts[first] : stops[last - 1]]
            self._keep(
                _close(
                    self._read(arcs, chosen),
                    totals[first:last],
                    arcs.values[order[starts[first:last]]],
                )
            )

    def _sort(self, count: int) -> None:
        """Put the index in order of regions."""
        rings = _Index(*map(np.concatenate, zip(*self._parts, strict=True)))
        self._parts.clear()
        order = np.argsort(rings.values, kind="stable")
        self._rings = _Index(*(column[order] for column in rings))
        self._begin = np.searchsorted(self._rings.values, np.arange(1, count + 2))

    def corners(self) -> _Ints:
        """(count,) corners of each region."""
        assert self._rings is not None
        total = np.concatenate([[0], np.cumsum(self._rings.counts)])
        return np.diff(total[self._begin])

    def polygons(self, labels: _Ints) -> tuple[NDArray[Any], _Ints]:
        """Polygons of some regions, and their areas in pixels: see `pieces.assemble`."""
        assert self._rings is not None
        begin, end = self._begin[labels - 1], self._begin[labels]
        counts = end - begin
        rings = np.arange(counts.sum()) + np.repeat(begin - np.cumsum(counts) + counts, counts)
        regions = np.repeat(np.arange(len(labels)), counts)
        return assemble(Rings(self._read(self._rings, rings), self._rings.counts[rings], regions))


def batches(counts: _Ints, most: int = 2**63 - 1) -> Iterator[tuple[int, int]]:
    """Ranges (first, last + 1) of up to `most` items with about a million corners, or one item."""
    total = np.cumsum(counts)
    first = 0
    while first < len(counts):
        before = int(total[first - 1]) if first else 0
        last = int(np.searchsorted(total, before + _CORNERS, side="right"))
        last = min(max(last, first + 1), first + most)
        yield first, last
        first = last


def _close(vertices: NDArray[np.int32], counts: _Ints, values: _Ints) -> Chains:
    """Rings from joined arcs: cut where they touch themselves, each from its first corner on."""
    ring = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((ring, vertices[:, 1], vertices[:, 0]))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    following = np.arange(1, len(order) + 1)
    following[np.cumsum(counts) - 1] = np.cumsum(counts) - counts
    sorted_vertices, sorted_ring = vertices[order], ring[order]
    touch = (np.diff(sorted_vertices, axis=0) == 0).all(axis=1) & (np.diff(sorted_ring) == 0)
    pinch = np.flatnonzero(touch)
    walk, starts = chain(rank[following][order], pinch, pinch + 1)
    none = np.full(len(starts), -1)
    return Chains(
        sorted_vertices[walk],
        np.diff(np.append(starts, len(walk))),
        values[sorted_ring[walk[starts]]],
        none,
        none,
    )
