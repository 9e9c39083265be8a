"""Chains of points that each know the next: cut where they touch themselves, and put in order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from tilseg.regions.components import first_index, union

_Ints = NDArray[np.int64]


def chain(following: _Ints, one: _Ints, other: _Ints) -> tuple[_Ints, _Ints]:
    """All points chain by chain, and where in that each chain starts.

    following: (n,) the next point, -1 at the end of an open chain, whose first point must be its
        lowest; a ring begins with its lowest. Chains come in the order of their first points.
    one, other: points that lie at one place; where both are of one chain it is cut into two,
        neither of which crosses itself (outlines touch themselves from one side only, so that the
        order of cuts makes no difference). Changes `following` so.
    """
    group = _groups(following)
    cut = group[one] == group[other]
    if cut.any():
        one, other = one[cut], other[cut]
        following[one], following[other] = following[other], following[one]
        group = _groups(following)
    first = first_index(group)
    lengths = np.bincount(group, minlength=len(first))
    return _walk(following, group, first), np.cumsum(lengths) - lengths


def _groups(following: _Ints) -> _Ints:
    linked = np.flatnonzero(following >= 0)
    return union(linked, following[linked], len(following))


def _walk(following: _Ints, group: _Ints, first: _Ints) -> _Ints:
    """Every point in order: all chains are tied into one, which is walked in compiled code."""
    if not len(following):
        return following
    last = np.full(len(following), -1, dtype=np.int64)
    linked = np.flatnonzero(following >= 0)
    last[following[linked]] = linked
    last = last[first]
    ends = np.flatnonzero(following < 0)
    last[group[ends]] = ends
    tied = following.copy()
    tied[last[:-1]] = first[1:]
    tied[last[-1]] = -1
    steps = tied >= 0
    pointer = np.concatenate([[0], np.cumsum(steps)])
    path = sparse.csr_array((np.ones(len(pointer) - 2), tied[steps], pointer))
    path.resize(len(following), len(following))
    order: NDArray[np.int32] = csgraph.depth_first_order(
        path, first[0], directed=True, return_predecessors=False
    )
    return order.astype(np.int64)
