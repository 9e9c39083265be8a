"""Where pixels lie: CRS and affine transform, or a physical pixel size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from affine import Affine


class Factors(NamedTuple):
    """How many pixels of an image's level 0 one pixel of a grid spans, down and across.

    The corner of pixel (0, 0) is that of the image, so that a place (row, col) of the grid,
    counted from there, is (row * rows, col * cols) in pixels of level 0.
    """

    rows: float
    cols: float


ONE_TO_ONE = Factors(1.0, 1.0)


@dataclass(frozen=True, slots=True)
class PixelSize:
    """Height and width of a pixel in `unit`: "um" on slides, "m", "degree", ... on maps."""

    rows: float
    cols: float
    unit: str

    @property
    def area(self) -> float | None:
        """Area of a pixel in squared units; None in degrees, where it varies over the image."""
        return None if self.unit == "degree" else self.rows * self.cols


@dataclass(frozen=True, slots=True)
class Georef:
    """The place of a pixel grid.

    crs: the coordinate reference system as WKT, or None for an image that is not on a map.
    transform: (a, b, c, d, e, f) of the affine map from (column, row) corners to the CRS, in
        the order of the `affine` package, exactly as in the file; None when there is none.
    pixel_size: None when the file states none; it is never guessed.
    factors: of its pixels over those of the image it belongs to.
    """

    crs: str | None = None
    transform: tuple[float, float, float, float, float, float] | None = None
    pixel_size: PixelSize | None = None
    factors: Factors = ONE_TO_ONE

    @property
    def is_map(self) -> bool:
        """Whether outputs belong on this grid in a GIS."""
        return self.transform is not None

    @property
    def affine(self) -> Affine:
        return Affine.identity() if self.transform is None else Affine(*self.transform)

    def decimated(self, row_factor: float, col_factor: float) -> Georef:
        """The grid from the same corner with pixels that many times larger."""
        transform, pixel = self.transform, self.pixel_size
        if transform is not None:
            transform = tuple(Affine(*transform) * Affine.scale(col_factor, row_factor))[:6]
        if pixel is not None:
            pixel = replace(pixel, rows=pixel.rows * row_factor, cols=pixel.cols * col_factor)
        factors = Factors(self.factors.rows * row_factor, self.factors.cols * col_factor)
        return Georef(self.crs, transform, pixel, factors)


def map_pixel_size(transform: Affine, unit: str) -> PixelSize:
    """Pixel size of an affine grid, rotated or not, in the CRS's unit."""
    return PixelSize(
        rows=math.hypot(transform.b, transform.e),
        cols=math.hypot(transform.a, transform.d),
        unit=unit,
    )
