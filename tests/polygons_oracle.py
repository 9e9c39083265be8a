"""Outlines of regions by GDAL on the whole raster, and by tilseg in blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray

from tilseg.polygons.outlines import Outlines
from tilseg.regions import BlockGrid
from tilseg.window import Size

Corner = tuple[int, int]


def traced(
    labels: NDArray[Any], block: tuple[int, int], folder: Path
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Polygons and areas of the regions 1..max of a label raster, traced in blocks."""
    grid = BlockGrid(Size(*labels.shape), Size(*block))
    count = int(labels.max())
    with Outlines(grid.shape, folder) as outlines:
        outlines.trace(((window, labels[window.slices]) for window in grid), count)
        assert (outlines.corners() > 0).all()
        return outlines.polygons(np.arange(1, count + 1))


def gdal_rings(labels: NDArray[Any]) -> dict[int, set[frozenset[Corner]]]:
    """The rings of each region as GDAL finds them, cut where they touch themselves."""
    found: dict[int, set[frozenset[Corner]]] = {}
    shapes = rasterio.features.shapes(labels.astype(np.int32), mask=labels > 0, connectivity=4)
    for shape, value in shapes:
        for ring in shape["coordinates"]:
            for simple in _cut([(int(x), int(y)) for x, y in ring[:-1]]):
                found.setdefault(int(value), set()).add(_edges(simple))
    return found


def our_rings(polygons: NDArray[Any]) -> dict[int, set[frozenset[Corner]]]:
    """The same of polygons, where corners are corners: not where two others meet beside one."""
    found: dict[int, set[frozenset[Corner]]] = {}
    for number, geometry in enumerate(polygons, start=1):
        for piece in shapely.get_parts(geometry):
            for ring in (piece.exterior, *piece.interiors):
                corners = [(int(x), int(y)) for x, y in ring.coords[:-1]]
                found.setdefault(number, set()).add(_edges(_without_straight(corners)))
    return found


def _cut(ring: list[Corner]) -> list[list[Corner]]:
    """A walk that comes back to a place is two walks."""
    done: list[list[Corner]] = []
    walk: dict[Corner, None] = {}
    for corner in ring:
        if corner in walk:
            loop = [walk.popitem()[0]]
            while loop[-1] != corner:
                loop.append(walk.popitem()[0])
            done.append(loop)
        walk[corner] = None
    return [*done, list(walk)]


def _edges(ring: list[Corner]) -> frozenset[Any]:
    """A ring whatever its start and direction."""
    return frozenset(frozenset(edge) for edge in zip(ring, [*ring[1:], ring[0]], strict=True))


def _without_straight(ring: list[Corner]) -> list[Corner]:
    around = zip([ring[-1], *ring[:-1]], ring, [*ring[1:], ring[0]], strict=True)
    return [(x, y) for (x0, y0), (x, y), (x1, y1) in around if not (x0 == x == x1 or y0 == y == y1)]
