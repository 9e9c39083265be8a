"""Convex hulls of regions in exact integers: area_convex, solidity and feret_diameter_max.

scikit-image takes the hull of the midpoints of the pixels' edges and counts the pixels whose
centres lie in it or on its outline. The same is done here without drawing the hull: its
extent along each pixel row is a quotient of integers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tilseg.regions.components import Components

_PAIRS = 2**22  # vertex pairs compared at once: 100 MB of temporaries


class Extents(NamedTuple):
    """Outermost pixels of regions, row by row: sorted by (region, row), each row once.

    region, row, low, high: (n,) int64; low and high are the first and last column.
    """

    region: NDArray[np.int64]
    row: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]

    def hull(self) -> Extents:
        """Only the rows in which the convex hull has a vertex."""
        left = _lower_hull(self.region, self.row, self.low)
        right = _lower_hull(self.region, self.row, -self.high)
        return self.take(left | right)

    def take(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> Extents:
        return Extents(*(values[index] for values in self))


def extents(
    region: NDArray[np.int64],
    row: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
) -> Extents:
    """Row extents from pieces in any order, several of which may share a row."""
    order = np.lexsort((row, region))
    region, row, low, high = region[order], row[order], low[order], high[order]
    if len(order) == 0:
        return Extents(region, row, low, high)
    begin = np.flatnonzero(
        np.concatenate([[True], (region[1:] != region[:-1]) | (row[1:] != row[:-1])])
    )
    return Extents(
        region[begin],
        row[begin],
        np.minimum.reduceat(low, begin),
        np.maximum.reduceat(high, begin),
    )


def block_hulls(parts: Components) -> Extents:
    """Hull rows of every component of a block, at the block's corner."""
    cols = parts.cols
    last = cols + parts.stop - parts.start - 1
    return extents(parts.member, parts.rows, cols, last).hull()


def _lower_hull(
    group: NDArray[np.int64], x: NDArray[np.int64], y: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which points are vertices of the lower convex hull of their group.

    Points are sorted by (group, x) with no x twice in a group. A point on or above the segment
    between two others is no vertex; all that are so between their neighbours go at once, until
    none is left. Every group is treated in the same step, so thousands cost what one does.
    """
    left = np.arange(len(x))
    while True:
        g, px, py = group[left], x[left], y[left]
        before = (py[1:-1] - py[:-2]) * (px[2:] - px[:-2])
        between = (py[2:] - py[:-2]) * (px[1:-1] - px[:-2])
        drop = (g[2:] == g[:-2]) & (before >= between)
        if not drop.any():
            break
        left = left[np.concatenate([[True], ~drop, [True]])]
    keep = np.zeros(len(x), dtype=np.bool_)
    keep[left] = True
    return keep


def measure_hulls(hull: Extents, count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """area_convex and feret_diameter_max of regions 0..count-1 from their hull rows."""
    pixels = _pixels_in_hull(hull)
    area = np.zeros(count, dtype=np.int64)
    np.add.at(area, pixels.region, pixels.high - pixels.low + 1)
    return area.astype(np.float64), np.sqrt(_feret_squared(pixels.hull(), count))


def _pixels_in_hull(hull: Extents) -> Extents:
    """Extents of the pixels whose centres lie in the hull of the pixels' edge midpoints."""
    first = np.flatnonzero(np.diff(hull.region, prepend=-1))
    last = np.flatnonzero(np.diff(hull.region, append=-1))
    height = hull.row[last] - hull.row[first] + 1
    region = np.repeat(hull.region[first], height)
    row = np.arange(len(region)) - np.repeat(np.cumsum(height) - height - hull.row[first], height)
    low = _outline(hull.region, hull.row, hull.low, region, row)
    high = -_outline(hull.region, hull.row, -hull.high, region, row)
    return Extents(region, row, low, high)


def _outline(
    group: NDArray[np.int64],
    row: NDArray[np.int64],
    low: NDArray[np.int64],
    at_group: NDArray[np.int64],
    at_row: NDArray[np.int64],
) -> NDArray[np.int64]:
    """First column inside the hull of the edge midpoints, at each (at_group, at_row).

    Coordinates are doubled, so that midpoints are integers too.
    """
    middle = extents(
        np.tile(group, 3),
        np.concatenate([2 * row - 1, 2 * row, 2 * row + 1]),
        np.concatenate([2 * low, 2 * low - 1, 2 * low]),
        np.tile(low, 3),
    )
    chain = middle.take(_lower_hull(middle.region, middle.row, middle.low))
    # Rows of one group lie between those of the groups beside it on one common axis.
    span = 2 * int(chain.row.max() - chain.row.min() + 2) if len(chain.row) else 1
    base = int(chain.row.min()) if len(chain.row) else 0
    axis = chain.region * span + chain.row - base
    after = np.searchsorted(axis, at_group * span + 2 * at_row - base, side="right")
    x0, y0 = chain.row[after - 1], chain.low[after - 1]
    dx, dy = chain.row[after] - x0, chain.low[after] - y0
    # ceil of half the column where the edge from (x0, y0) meets the row.
    return np.asarray(-(-(y0 * dx + dy * (2 * at_row - x0)) // (2 * dx)))


def _feret_squared(hull: Extents, count: int) -> NDArray[np.float64]:
    """Largest squared distance between edge midpoints of each region's hull pixels.

    For two pixels (dr, dc) apart the farthest midpoints are dr^2 + dc^2 + 2 max(|dr|, |dc|) + 1
    apart, squared.
    """
    region = np.concatenate([hull.region, hull.region])
    row = np.concatenate([hull.row, hull.row])
    col = np.concatenate([hull.low, hull.high])
    order = np.argsort(region, kind="stable")
    region, row, col = region[order], row[order], col[order]
    begin = np.searchsorted(region, region, side="left")
    partners = np.searchsorted(region, region, side="right") - begin
    best = np.zeros(count, dtype=np.int64)
    work = np.cumsum(partners)
    start = 0
    while start < len(region):
        done = work[start] - partners[start]
        stop = max(start + 1, int(np.searchsorted(work, done + _PAIRS, side="right")))
        one = np.repeat(np.arange(start, stop), partners[start:stop])
        offset = np.cumsum(partners[start:stop]) - partners[start:stop]
        other = np.arange(len(one)) - np.repeat(offset - begin[start:stop], partners[start:stop])
        dr, dc = np.abs(row[one] - row[other]), np.abs(col[one] - col[other])
        np.maximum.at(best, region[one], dr * dr + dc * dc + 2 * np.maximum(dr, dc) + 1)
        start = stop
    return best.astype(np.float64)
