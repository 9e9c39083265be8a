"""A mask of larger or smaller pixels, seen on the grid of the image it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.card import ClassInfo
from tilseg.georef import Georef
from tilseg.resample import nearest
from tilseg.sink import Mask
from tilseg.source import Level, Source
from tilseg.sources.resampled import ResampledSource
from tilseg.window import Size, Window

_ROWS = 256  # rows read at a time, for there can be many more pixels in the mask than here


@dataclass(frozen=True, slots=True)
class RegriddedMask:
    """`mask` on the grid of `shape` at `georef`: each pixel is the one its centre lies in."""

    mask: Mask
    shape: Size
    georef: Georef

    @property
    def name(self) -> str:
        return self.mask.name

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.mask.dtype

    @property
    def nodata(self) -> int:
        return self.mask.nodata

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        return self.mask.classes

    @property
    def background(self) -> int | None:
        return self.mask.background

    @property
    def levels(self) -> tuple[Level, ...]:
        return (Level(self.shape, 1.0, 1.0),)

    @property
    def provenance(self) -> Mapping[str, str]:
        return self.mask.provenance

    def read(self, window: Window, level: int = 0) -> NDArray[Any]:  # noqa: ARG002
        pixels = np.empty(window.size, self.dtype)
        size, factors = self.mask.shape, self.mask.georef.factors
        cols = nearest(window.col, window.col_stop, size.cols, factors.cols)
        for row in range(0, window.rows, _ROWS):
            part = pixels[row : row + _ROWS]
            first = window.row + row
            rows = nearest(first, first + len(part), size.rows, factors.rows)
            top, left = int(rows[0]), int(cols[0])
            inside = Window(top, left, int(rows[-1]) + 1 - top, int(cols[-1]) + 1 - left)
            part[...] = self.mask.read(inside)[np.ix_(rows - top, cols - left)]
        return pixels


def on_image_grid(mask: Mask, source: Source) -> Mask:
    """`mask` on the grid of the image, where `source` is that image resampled."""
    if not isinstance(source, ResampledSource):
        return mask
    return RegriddedMask(mask, source.image.shape, source.image.georef)
