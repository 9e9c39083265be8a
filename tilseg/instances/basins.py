"""Basins and the saddles between them, and which of them are one.

Pixels are ordered by height, and those of one height by their place: the first in raster order
is the highest. A `key` says both in one integer. Every pixel that is higher than all its neighbours
has a basin, and a saddle is the lower pixel of the highest pair by which two basins touch.

A basin that rises by no more than `depth` above its highest saddle is joined to the basin beyond
it, until none is left that does. Both ends of the highest saddle of a basin are in one tree of the
maximum spanning forest of the pixels (Boruvka's step), so the order of joining changes nothing:
what is left are the trees of that forest rooted in the maxima whose dynamics exceed `depth`, a
watershed cut (Cousty, Bertrand, Najman and Couprie, "Watershed cuts: minimum spanning forests and
the drop of water principle", IEEE TPAMI 31(8), 2009).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tilseg.regions.components import union

_PLACE_BITS = 44  # places to 17 terapixels, squared heights to 524,287
_PLACES = (1 << _PLACE_BITS) - 1

_Ints = NDArray[np.int64]


def key_of(squared_height: _Ints, place: _Ints) -> _Ints:
    """Order of pixels by squared height and then by place in the image, the first highest."""
    return (squared_height << _PLACE_BITS) + (_PLACES - place)


def height_of(key: _Ints) -> NDArray[np.float64]:
    """Height in pixels of the pixels with these keys."""
    height: NDArray[np.float64] = np.sqrt(key >> _PLACE_BITS)
    return height


class Edges(NamedTuple):
    """Pairs of touching pixels, one of each basin `one` and `other`, by keys: (n,) int64 each."""

    one: _Ints
    other: _Ints
    low: _Ints
    high: _Ints

    @classmethod
    def between(cls, one: _Ints, other: _Ints, key: _Ints, other_key: _Ints) -> Edges:
        """Pixel pairs of any basins, as the highest pair of each two that differ."""
        return cls(one, other, np.minimum(key, other_key), np.maximum(key, other_key)).highest()

    @classmethod
    def concatenated(cls, parts: Sequence[Edges]) -> Edges:
        """All pairs of all parts, of which there is at least one."""
        return cls(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def shifted(self, base: int) -> Edges:
        """The same pairs of basins that are numbered on from `base`."""
        return self._replace(one=self.one + base, other=self.other + base)

    def renamed(self, name: _Ints) -> Edges:
        """The same pairs of the basins `name[one]` and `name[other]`."""
        return self._replace(one=name[self.one], other=name[self.other])

    def take(self, chosen: NDArray[np.intp]) -> Edges:
        return Edges(*(values[chosen] for values in self))

    def highest(self) -> Edges:
        """The highest pair of each two basins, in ascending order of pairs."""
        apart = self.take(np.flatnonzero(self.one != self.other))
        one, other = np.minimum(apart.one, apart.other), np.maximum(apart.one, apart.other)
        order = np.lexsort((apart.high, apart.low, other, one))
        last = np.diff(one[order], append=-1) != 0
        last |= np.diff(other[order], append=-1) != 0
        best = apart.take(order[last])
        return best.take(np.lexsort((best.high, best.low)))


class Joined(NamedTuple):
    """Basins after joining. group: (basins,) int64, what each went into, from 0 by first members.

    peak, closed: of each group. edges: between groups, without those that can't join any.
    """

    group: _Ints
    peak: _Ints
    closed: NDArray[np.bool_]
    edges: Edges


def join(peak: _Ints, closed: NDArray[np.bool_], edges: Edges, depth: float) -> Joined:
    """Join every closed basin that rises by no more than `depth` pixels above its highest saddle.

    peak: (basins,) key of the highest pixel of each. closed: all saddles of the basin are among
    `edges`; one that is not may have a higher saddle elsewhere, so it is only joined to.
    """
    group, edges = np.arange(len(peak)), edges.highest()
    while True:
        best = np.full(len(peak), -1)
        # Edges ascend, and of equal indices the last one stays.
        ends = np.stack([edges.one, edges.other], axis=1).ravel()
        best[ends] = np.repeat(np.arange(len(edges.one)), 2)
        shallow = closed & (best >= 0)
        asked = np.flatnonzero(shallow)
        rise = height_of(peak[asked]) - depth <= height_of(edges.low[best[asked]])
        if not rise.any():
            open_ = ~(closed[edges.one] & closed[edges.other])
            return Joined(group, peak, closed, edges.take(np.flatnonzero(open_)))
        crossed = edges.take(best[asked[rise]])
        step = union(crossed.one, crossed.other, len(peak))
        count = int(step.max()) + 1
        peaks, closures = np.zeros(count, np.int64), np.ones(count, np.bool_)
        np.maximum.at(peaks, step, peak)
        np.logical_and.at(closures, step, closed)
        group, peak, closed, edges = step[group], peaks, closures, edges.renamed(step).highest()
