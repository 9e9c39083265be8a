"""Polygons burnt on a pixel grid, window by window: the same pixels whatever is read."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray

import tilseg.gdal_env  # noqa: F401
from tilseg.window import Window

# Burnt in blocks of one lattice whatever is read, so that a pixel whose centre an edge meets
# within rounding is the same in every window.
_BLOCK = 1024
_KEPT = 32  # blocks, of 2 MB each


class Burner:
    """Burns (n,) polygons, in columns and rows from the corner of pixel (0, 0), as (n,) values.

    A pixel has the value of the last polygon that holds its centre, and 0 outside all (GDAL's
    rule). Thread-safe; memory does not grow with the grid.
    """

    def __init__(self, polygons: NDArray[Any], values: NDArray[np.uint16]) -> None:
        self._polygons = polygons
        self._values = values
        self._tree = shapely.STRtree(polygons)
        self._blocks: OrderedDict[tuple[int, int], NDArray[np.uint16]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, window: Window) -> NDArray[np.uint16]:
        """Values of a window, (rows, cols) uint16."""
        found = np.empty(window.size, np.uint16)
        for row in range(window.row // _BLOCK, -(-window.row_stop // _BLOCK)):
            for col in range(window.col // _BLOCK, -(-window.col_stop // _BLOCK)):
                block = Window(row * _BLOCK, col * _BLOCK, _BLOCK, _BLOCK)
                part = block.intersection(window)
                pixels = self._block(block)[part.relative_to(block).slices]
                found[part.relative_to(window).slices] = pixels
        return found

    def meets(self, window: Window) -> bool:
        """Whether a polygon has a point in the window; where not, `read` gives nothing but 0."""
        return bool(self._tree.query(_box(window), predicate="intersects").size)

    def covers(self, window: Window) -> bool:
        """Whether one polygon has all of the window in it; where so, `read` gives no 0."""
        return bool(self._tree.query(_box(window), predicate="within").size)

    def close(self) -> None:
        self._blocks.clear()

    def _block(self, block: Window) -> NDArray[np.uint16]:
        key = (block.row, block.col)
        with self._lock:
            pixels = self._blocks.pop(key, None)
            if pixels is None:
                pixels = self._burn(block)
            self._blocks[key] = pixels
            if len(self._blocks) > _KEPT:
                self._blocks.popitem(last=False)
            return pixels

    def _burn(self, block: Window) -> NDArray[np.uint16]:
        # The tree answers in no order, and the order decides which polygon lies on top.
        found = np.sort(self._tree.query(_box(block)))
        if not len(found):
            return np.zeros(block.size, np.uint16)
        burnt: NDArray[np.uint16] = rasterio.features.rasterize(
            [(self._polygons[k], int(self._values[k])) for k in found],
            out_shape=tuple(block.size),
            transform=Affine.translation(block.col, block.row),
            fill=0,
            dtype="uint16",
        )
        return burnt


def _box(window: Window) -> Any:
    return shapely.box(window.col, window.row, window.col_stop, window.row_stop)
