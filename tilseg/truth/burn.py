"""Polygons burnt on the grid of a prediction or an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.georef import Georef
from tilseg.truth.class_map import IGNORED, Grid
from tilseg.truth.features import Features
from tilseg.vector.burning import Burner
from tilseg.vector.projection import on_pixels
from tilseg.window import Size, Window


class BurntMap:
    """Polygons as a `ClassMap`: a pixel has the class of the last polygon that holds its centre,
    and 0 outside all (GDAL's rule). Polygons on another CRS are brought over vertex by vertex.

    Raises InputError E-TRUTH-VECTOR for a CRS that isn't known or can't be brought over, and
    E-CLASSES-GRID where the truth was drawn on an image of another size.
    """

    colors: dict[int, str]

    def __init__(self, features: Features, grid: Grid, *, align: bool) -> None:
        self.path = features.path
        self.shape: Size = grid.shape
        self.georef: Georef = grid.georef
        drawn = features.classes[features.classes != IGNORED]
        self.values = tuple(np.unique(np.append(drawn, 0)).tolist())
        self.names = features.names
        self.colors = {}
        self.background: int | None = 0
        self.notes: tuple[str, ...] = ()
        self._burner = Burner(_on_pixels(features, grid, align=align), features.classes)

    def read(self, window: Window) -> NDArray[np.uint16]:
        return self._burner.read(window)

    def close(self) -> None:
        self._burner.close()


def _on_pixels(features: Features, grid: Grid, *, align: bool) -> NDArray[Any]:
    """The polygons in columns and rows of the grid."""
    if features.crs is None:
        drawn = features.shape or grid.shape
        if drawn != grid.shape and not align:
            raise InputError(
                "E-CLASSES-GRID",
                path=features.path,
                found=f"drawn on {drawn.rows} x {drawn.cols} pixels",
                grid=grid.path,
                wanted=f"{grid.shape.rows} x {grid.shape.cols}",
            )
        scale = np.array([grid.shape.cols / drawn.cols, grid.shape.rows / drawn.rows])
        return np.asarray(shapely.transform(features.polygons, lambda points: points * scale))
    try:
        return on_pixels(features.polygons, str(features.crs), grid.georef)
    except ValueError as error:
        raise InputError("E-TRUTH-VECTOR", path=features.path, reason=error) from None
