"""The outlines inside one block, as directed chains of corners.

Between pixels of different value lies a crack. Each region walks along the cracks of its own
pixels with its pixels on the right hand. A vertex of the pixel lattice belongs to the block of
the pixel to its lower right, so all a block needs beside its own pixels is the row above them
and the column to their left. A chain is a closed ring or an arc, which enters and leaves the
block over its border.

At a vertex where two pixels of a region meet by their corners alone the walk stays with its
pixel: it bounds pieces that hang together over edges.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tilseg.polygons.chains import chain

_Ints = NDArray[np.int64]

_RIGHT, _LEFT, _DOWN, _UP = _HEADINGS = range(4)
_NORTH, _EAST, _SOUTH, _WEST = 8, 4, 2, 1  # cracks at a vertex
_NW, _NE, _SW, _SE = range(4)  # pixels around it

# What a walk can do at a vertex: the cracks that must be there, and those that must not; the pixel
# whose region walks; its heading before and after. Two turns of one region at one vertex are
# neighbours in this list. A region that goes straight on where two others meet has a vertex there
# too, or the polygons would have gaps after any rounding or simplification.
_TURNS = (
    (_NORTH | _WEST, 0, _NW, _DOWN, _LEFT),
    (_SOUTH | _EAST, 0, _SE, _UP, _RIGHT),
    (_NORTH | _EAST, 0, _NE, _LEFT, _UP),
    (_SOUTH | _WEST, 0, _SW, _RIGHT, _DOWN),
    (_SOUTH | _EAST, _NORTH | _WEST, _NW, _LEFT, _DOWN),
    (_SOUTH | _WEST, _NORTH | _EAST, _NE, _UP, _LEFT),
    (_NORTH | _WEST, _SOUTH | _EAST, _SE, _RIGHT, _UP),
    (_NORTH | _EAST, _SOUTH | _WEST, _SW, _DOWN, _RIGHT),
    (_EAST | _SOUTH | _WEST, _NORTH, _NW, _LEFT, _LEFT),
    (_NORTH | _EAST | _WEST, _SOUTH, _SW, _RIGHT, _RIGHT),
    (_NORTH | _EAST | _SOUTH, _WEST, _NW, _DOWN, _DOWN),
    (_NORTH | _SOUTH | _WEST, _EAST, _NE, _UP, _UP),
)
_THERE = np.array(
    [[cracks & yes == yes and not cracks & no for yes, no, *_ in _TURNS] for cracks in range(16)]
)
_PIXEL, _BEFORE, _AFTER = np.array([turn[2:] for turn in _TURNS]).T


class Chains(NamedTuple):
    """Directed chains of corners, one after the other.

    vertices: (n, 2) int32, row and column of corners in the lattice of the whole mask.
    counts: (k,) corners of each chain; an arc may have none. values: (k,) its region.
    entry, exit: (k,) where an arc enters and leaves the block, named alike on both sides of a
        border; -1 for a ring, which begins with its first corner in raster order.
    """

    vertices: NDArray[np.int32]
    counts: _Ints
    values: _Ints
    entry: _Ints
    exit: _Ints


class _Walk(NamedTuple):
    """Points of walks: places in the block's lattice, regions, headings (-1 for none), keys."""

    row: _Ints
    col: _Ints
    value: _Ints
    before: _Ints
    after: _Ints
    key: _Ints


def trace(framed: NDArray[Any], row: int, col: int, width: int) -> Chains:
    """The outlines of all regions at the vertices that a block owns.

    framed: (m + 1, n + 1) values, 0 where there is no region; its first row and column are the
        pixels before the block, or 0 outside the mask; at the mask's lower and right end one
        more row and column of 0.
    row, col: of the block's first pixel. width: columns of the mask.
    """
    across, down = framed[:, 1:] != framed[:, :-1], framed[1:] != framed[:-1]
    size = down.shape[0], across.shape[1]
    turns = _turns(framed, across, down)
    ways_in, ways_out = _border(framed, across, down, row, col, width)
    # In this order the first of a chain is where it begins.
    walk = _Walk(*map(np.concatenate, zip(ways_in, turns, ways_out, strict=True)))
    following = _follow(walk, size)
    same = (np.diff(walk.row) == 0) & (np.diff(walk.col) == 0) & (np.diff(walk.value) == 0)
    same &= (walk.after[:-1] >= 0) & (walk.before[:-1] >= 0) & (walk.before[1:] >= 0)
    pinch = np.flatnonzero(same & (walk.after[1:] >= 0))
    order, starts = chain(following, pinch, pinch + 1)
    is_corner = (walk.before >= 0) & (walk.after >= 0)
    counts = np.add.reduceat(is_corner[order], starts) if len(starts) else starts
    first, last = order[starts], order[np.append(starts[1:], len(order))[: len(starts)] - 1]
    order = order[is_corner[order]]
    return Chains(
        np.stack([walk.row[order] + row, walk.col[order] + col], axis=1).astype(np.int32),
        counts.astype(np.int64),
        walk.value[first],
        walk.key[first],
        walk.key[last],
    )


def _turns(framed: NDArray[Any], across: NDArray[np.bool_], down: NDArray[np.bool_]) -> _Walk:
    north, south, west, east = across[:-1], across[1:], down[:, :-1], down[:, 1:]
    row, col = np.nonzero((north | south) & (west | east))
    cracks = north[row, col] * _NORTH + east[row, col] * _EAST
    cracks += south[row, col] * _SOUTH + west[row, col] * _WEST
    vertex, turn = np.nonzero(_THERE[cracks])
    row, col, pixel = row[vertex], col[vertex], _PIXEL[turn]
    value = framed[row + pixel // 2, col + pixel % 2].astype(np.int64)
    keep = value > 0
    row, col, value, turn = row[keep], col[keep], value[keep], turn[keep]
    return _Walk(row, col, value, _BEFORE[turn], _AFTER[turn], np.full(len(row), -1))


def _border(
    framed: NDArray[Any],
    across: NDArray[np.bool_],
    down: NDArray[np.bool_],
    row: int,
    col: int,
    width: int,
) -> tuple[_Walk, _Walk]:
    """Where walks enter the block over its four sides, and where they leave it."""
    rows, cols = down.shape[0], across.shape[1]
    ways: tuple[list[_Walk], list[_Walk]] = ([], [])
    for heading in _HEADINGS:
        for entering in (True, False):
            # On the right hand are the later pixels for those who go right or up.
            later = heading in (_RIGHT, _UP)
            begins = entering == (heading in (_RIGHT, _DOWN))
            if heading in (_RIGHT, _LEFT):
                side = 0 if begins else cols
                values = framed[later : rows + later, side].astype(np.int64)
                at = np.flatnonzero(down[:, side] & (values > 0))
                places = at, np.full(len(at), -1 if begins else cols)
                key = (at + row) * (width + 1) + col + side
            else:
                side = 0 if begins else rows
                values = framed[side, later : cols + later].astype(np.int64)
                at = np.flatnonzero(across[side] & (values > 0))
                places = np.full(len(at), -1 if begins else rows), at
                key = (row + side) * (width + 1) + at + col
            none, headings = np.full(len(at), -1), np.full(len(at), heading)
            before, after = (none, headings) if entering else (headings, none)
            way = _Walk(*places, values[at], before, after, key * len(_HEADINGS) + heading)
            ways[not entering].append(way)
    ways_in, ways_out = (_Walk(*map(np.concatenate, zip(*each, strict=True))) for each in ways)
    return ways_in, ways_out


def _follow(walk: _Walk, size: tuple[int, int]) -> _Ints:
    """The next point of each, -1 where it leaves the block.

    Along one line of the lattice the stretches of one heading never overlap: the first start
    belongs to the first end, and so on.
    """
    following = np.full(len(walk.row), -1, dtype=np.int64)
    by_row = walk.row * (size[1] + 2) + walk.col
    by_col = walk.col * (size[0] + 2) + walk.row
    for heading in _HEADINGS:
        place = by_row if heading in (_RIGHT, _LEFT) else by_col
        begin, end = np.flatnonzero(walk.after == heading), np.flatnonzero(walk.before == heading)
        begin = begin[np.argsort(place[begin], kind="stable")]
        following[begin] = end[np.argsort(place[end], kind="stable")]
    return following
