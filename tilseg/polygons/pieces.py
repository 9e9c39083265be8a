"""Rings of a region made polygons: shells, their holes, one polygon or multipolygon a region."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

_Ints = NDArray[np.int64]


class Rings(NamedTuple):
    """Rings that touch themselves nowhere, one after the other, with their region on the right.

    vertices: (n, 2) rows and columns of corners; a ring begins with its first in raster order.
    counts: (k,) corners of each. regions: (k,) index of the region of each, all of 0 to the last.
    """

    vertices: NDArray[np.int32]
    counts: _Ints
    regions: _Ints


def assemble(rings: Rings) -> tuple[NDArray[Any], _Ints]:
    """(regions,) polygons and multipolygons in pixels, x to the right and y down, and areas.

    Shells are in raster order of their first corners and the holes of each likewise, shells run
    anticlockwise in (x, y). Each piece that hangs together over edges is one polygon.
    """
    starts = np.cumsum(rings.counts) - rings.counts
    vertices = rings.vertices.astype(np.int64)
    area = _areas(vertices, starts, rings.counts)
    is_hole = area < 0
    heads = _keys(vertices[starts, 0], vertices[starts, 1], vertices)
    shell = _shells(rings, vertices, starts, is_hole, heads)
    order = np.lexsort((heads, is_hole, heads[shell], rings.regions))
    pieces = np.flatnonzero(~is_hole[order])
    counts = rings.counts[order]
    # Each ring closes with the corner that it began with.
    offsets = np.concatenate([[0], np.cumsum(counts + 1)])
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts + 1)
    corners = np.repeat(starts[order], counts + 1) + within % np.repeat(counts, counts + 1)
    xy = vertices[corners, ::-1].astype(np.float64)
    polygons = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, xy, (offsets, np.append(pieces, len(order)))
    )
    regions = rings.regions[order][pieces]
    total = np.bincount(rings.regions, weights=area.astype(np.float64))
    return _by_region(polygons, regions), total.astype(np.int64)


def _areas(vertices: _Ints, starts: _Ints, counts: _Ints) -> _Ints:
    """(k,) area of each ring in pixels, negative for holes: sums over its horizontal edges."""
    following = np.arange(1, len(vertices) + 1)
    following[starts + counts - 1] = starts
    row, col = (vertices - np.repeat(vertices[starts], counts, axis=0)).T
    return np.asarray(np.add.reduceat(row * (col - col[following]), starts))


def _keys(row: _Ints, col: _Ints, vertices: _Ints) -> _Ints:
    """Places as numbers in raster order."""
    return np.asarray(row * (int(vertices[:, 1].max()) + 1) + col)


def _shells(
    rings: Rings, vertices: _Ints, starts: _Ints, is_hole: NDArray[np.bool_], heads: _Ints
) -> _Ints:
    """The shell around each ring, itself for a shell.

    To the left of a hole's first corner lies a run of its region's pixels. It begins at a ring
    of the same piece, which is the shell or a hole that begins before this one.
    """
    shell = np.arange(len(starts))
    shells = np.bincount(rings.regions, weights=~is_hole)
    only = np.zeros(len(shells), dtype=np.int64)
    only[rings.regions[~is_hole]] = shell[~is_hole]
    shell[is_hole] = only[rings.regions[is_hole]]
    several = shells[rings.regions] > 1
    holes = np.flatnonzero(is_hole & several)
    if not len(holes):
        return shell
    keys, owners = _left_edges(rings, vertices, starts, several)
    span = int(heads.max()) + int(vertices[:, 1].max()) + 2
    order = np.argsort(keys := keys + rings.regions[owners] * span)
    before = np.searchsorted(keys[order], heads[holes] + rings.regions[holes] * span) - 1
    shell[holes] = owners[order][before]
    while (is_hole[shell[holes]]).any():
        shell[holes] = shell[shell[holes]]
    return shell


def _left_edges(
    rings: Rings, vertices: _Ints, starts: _Ints, chosen: NDArray[np.bool_]
) -> tuple[_Ints, _Ints]:
    """Place and ring of each pixel's side that has the region to its right, of `chosen` rings."""
    following = np.arange(1, len(vertices) + 1)
    following[starts + rings.counts - 1] = starts
    ring = np.repeat(np.arange(len(starts)), rings.counts)
    height = vertices[:, 0] - vertices[following, 0]
    edge = np.flatnonzero((height > 0) & chosen[ring])
    height = height[edge]
    down = np.arange(height.sum()) - np.repeat(np.cumsum(height) - height, height)
    row = np.repeat(vertices[following[edge], 0], height) + down
    return _keys(row, np.repeat(vertices[edge, 1], height), vertices), np.repeat(ring[edge], height)


def _by_region(polygons: NDArray[Any], regions: _Ints) -> NDArray[Any]:
    """One geometry a region: its polygon, or a multipolygon of its several."""
    pieces = np.bincount(regions)
    geometries = np.empty(len(pieces), dtype=object)
    single = pieces[regions] == 1
    geometries[regions[single]] = polygons[single]
    if not single.all():
        number = np.cumsum(pieces > 1) - 1
        geometries[pieces > 1] = shapely.multipolygons(
            polygons[~single], indices=number[regions[~single]]
        )
    return geometries
