"""Vector truth burnt on the grid of a prediction."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import rasterio.features
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import CRSError

import tilseg.gdal_env  # noqa: F401
from tilseg.errors import InputError
from tilseg.georef import Georef
from tilseg.truth.class_map import IGNORED, ClassMap
from tilseg.truth.features import Features
from tilseg.truth.projection import project, same_crs
from tilseg.window import Size, Window

# Burnt in blocks of one lattice whatever is read, so that a pixel whose centre an edge meets
# within rounding is the same in every window.
_BLOCK = 1024
_KEPT = 32  # blocks, of 2 MB each


class BurntMap:
    """Polygons as a `ClassMap`: a pixel has the class of the last polygon that holds its centre,
    and 0 outside all (GDAL's rule). Polygons on another CRS are brought over vertex by vertex.

    Raises InputError E-TRUTH-VECTOR for a CRS that isn't known or can't be brought over, and
    E-CLASSES-GRID where the truth was drawn on an image of another size.
    """

    colors: dict[int, str]

    def __init__(self, features: Features, grid: ClassMap, *, align: bool) -> None:
        self.path = features.path
        self.shape: Size = grid.shape
        self.georef: Georef = grid.georef
        drawn = features.classes[features.classes != IGNORED]
        self.values = tuple(np.unique(np.append(drawn, 0)).tolist())
        self.names = features.names
        self.colors = {}
        self.background: int | None = 0
        self.notes: tuple[str, ...] = ()
        self._classes = features.classes
        self._polygons = _on_pixels(features, grid, align=align)
        self._tree = shapely.STRtree(self._polygons)
        self._blocks: OrderedDict[tuple[int, int], NDArray[np.uint16]] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, window: Window) -> NDArray[np.uint16]:
        found = np.empty(window.size, np.uint16)
        for row in range(window.row // _BLOCK, -(-window.row_stop // _BLOCK)):
            for col in range(window.col // _BLOCK, -(-window.col_stop // _BLOCK)):
                block = Window(row * _BLOCK, col * _BLOCK, _BLOCK, _BLOCK)
                part = block.intersection(window)
                pixels = self._block(block)[part.relative_to(block).slices]
                found[part.relative_to(window).slices] = pixels
        return found

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
        box = shapely.box(block.col, block.row, block.col_stop, block.row_stop)
        # The tree answers in no order, and the order decides which polygon lies on top.
        found = np.sort(self._tree.query(box))
        if not len(found):
            return np.zeros(block.size, np.uint16)
        burnt: NDArray[np.uint16] = rasterio.features.rasterize(
            [(self._polygons[k], int(self._classes[k])) for k in found],
            out_shape=tuple(block.size),
            transform=Affine.translation(block.col, block.row),
            fill=0,
            dtype="uint16",
        )
        return burnt


def _on_pixels(features: Features, grid: ClassMap, *, align: bool) -> NDArray[Any]:
    """The polygons in columns and rows of the grid."""
    if features.crs is None:
        drawn = features.shape or grid.shape
        if drawn != grid.shape and not align:
            raise InputError(
                "E-CLASSES-GRID",
                path=features.path,
                found=f"drawn on {drawn.rows} x {drawn.cols} pixels",
                wanted=f"{grid.shape.rows} x {grid.shape.cols}",
            )
        scale = np.array([grid.shape.cols / drawn.cols, grid.shape.rows / drawn.rows])
        return np.asarray(shapely.transform(features.polygons, lambda points: points * scale))
    points = shapely.get_coordinates(features.polygons)
    if len(points):
        points = _brought_over(features, points, str(grid.georef.crs))
    cols, rows = ~grid.georef.affine * (points[:, 0], points[:, 1])
    return np.asarray(
        shapely.set_coordinates(features.polygons.copy(), np.column_stack([cols, rows]))
    )


def _brought_over(features: Features, points: NDArray[np.float64], crs: str) -> NDArray[np.float64]:
    try:
        if same_crs(str(features.crs), crs):
            return points
        moved = project(points, str(features.crs), crs)
    except CRSError as error:
        raise _refuse(features, f"its CRS can't be used ({error})") from None
    if not np.isfinite(moved).all():
        raise _refuse(features, "some of its coordinates lie outside the prediction's CRS")
    return moved


def _refuse(features: Features, reason: str) -> InputError:
    return InputError("E-TRUTH-VECTOR", path=features.path, reason=reason)
