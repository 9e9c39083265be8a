"""An image on a grid of other pixels, made from the level that is just finer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.georef import Factors
from tilseg.nodata import valid_pixels
from tilseg.resample import Taps, grid_length, resample, taps
from tilseg.source import Level, Source
from tilseg.sources.derived import DerivedSource
from tilseg.window import Size, Window

# Bytes of the image that are read at once: a tile of it is decoded again for each such strip.
_STRIP_BYTES = 2**25


class ResampledSource(DerivedSource):
    """`image` on the grid of pixels that span `factors` of its own: one level, the same corner.

    A pixel is the weighted mean (`tilseg.resample`) of the valid ones under it, rounded to the
    image's dtype. It is valid where these have half of the weight or more. A mean that happens to
    be the nodata value is moved by the least step, as GDAL's warper does. Every pixel depends on
    its own place only: any windows give the same bits.
    """

    def __init__(self, image: Source, factors: Factors) -> None:
        shape = Size(*map(grid_length, image.shape, factors))
        super().__init__(
            image, levels=(Level(shape, 1.0, 1.0),), georef=image.georef.decimated(*factors)
        )
        self.factors = factors
        self._level = level = finer_level(image.levels, factors)
        at = image.levels[level]
        self._size = at.size
        self._step = Factors(factors.rows / at.row_factor, factors.cols / at.col_factor)

    def working_bytes(self, window: Size) -> int:
        """Memory that reading a window of that size takes beside its pixels, from above."""
        rows = min(window.rows, self._strip_rows(window.cols))
        # What is read, a copy of it without nodata, the means, and their copy that is rounded.
        return int((rows + 2) * 2 * sum(self._row_bytes(window.cols))) + 2**25

    def _strip_rows(self, cols: int) -> int:
        return max(1, int(_STRIP_BYTES / max(self._row_bytes(cols))))

    def _row_bytes(self, cols: int) -> tuple[float, float]:
        """Of one row of a window: what is read for it, and its means."""
        size = self.dtype.itemsize
        tall = min(self._step.rows, self._size.rows)
        wide = min(cols * self._step.cols + 3, self._size.cols)
        return tall * wide * self.bands * size, cols * self.bands * (4.0 if size == 1 else 8.0)

    def _read(self, window: Window, level: int, bands: tuple[int, ...]) -> NDArray[Any]:  # noqa: ARG002
        pixels = np.empty((*window.size, len(bands)), self.dtype)
        for strip, inside, rows, cols in self._strips(window):
            found = self.image.read(inside, self._level, bands)
            mask = self.image.mask(inside, self._level)
            valid = valid_pixels(found, self.nodata, mask)
            pixels[strip.relative_to(window).slices] = self._means(found, valid, rows, cols)
        return pixels

    def _mask(self, window: Window, level: int) -> NDArray[np.bool_] | None:  # noqa: ARG002
        mask = np.empty(window.size, np.bool_)
        for strip, inside, rows, cols in self._strips(window):
            found = self.image.mask(inside, self._level)
            if found is None:
                return None
            mask[strip.relative_to(window).slices] = resample(~found, rows, cols) <= 0.5
        return mask

    def _strips(self, window: Window) -> Iterator[tuple[Window, Window, Taps, Taps]]:
        """Rows of `window` at a time: what to read for them, and the taps into that."""
        cols = taps(window.col, window.col_stop, self._size.cols, self._step.cols)
        left, right = cols.span
        cols = cols.part(0, window.cols, left)
        step = self._strip_rows(window.cols)
        for row in range(window.row, window.row_stop, step):
            stop = min(row + step, window.row_stop)
            rows = taps(row, stop, self._size.rows, self._step.rows)
            top, bottom = rows.span
            inside = Window(top, left, bottom - top, right - left)
            yield (
                Window(row, window.col, stop - row, window.cols),
                inside,
                rows.part(0, stop - row, top),
                cols,
            )

    def _means(
        self, pixels: NDArray[Any], valid: NDArray[np.bool_] | None, rows: Taps, cols: Taps
    ) -> NDArray[Any]:
        if valid is None:
            return self._beside_nodata(self._rounded(resample(pixels, rows, cols)))
        gap = resample(~valid, rows, cols)[..., None]
        total = resample(np.where(valid[..., None], pixels, 0), rows, cols)
        # Where no pixel is missing nothing is divided, so that this and the other way agree.
        np.divide(total, 1 - gap, out=total, where=(gap > 0) & (gap <= 0.5))
        means = self._beside_nodata(self._rounded(total))
        means[gap[..., 0] > 0.5] = self._missing
        return means

    def _rounded(self, means: NDArray[np.floating]) -> NDArray[Any]:
        return (np.rint(means) if self.dtype.kind in "iu" else means).astype(self.dtype)

    def _beside_nodata(self, means: NDArray[Any]) -> NDArray[Any]:
        if self.nodata is not None:
            clash = (means == self.nodata).all(axis=2)
            means[clash, 0] = _beside(self.nodata, self.dtype)
        return means

    @property
    def _missing(self) -> float:
        if self.nodata is not None:
            return self.nodata
        return np.nan if self.dtype.kind == "f" else 0

    def __reduce__(self) -> tuple[Callable[..., Source], tuple[Any, ...]]:
        return on_grid, (self.image, self.factors)


def finer_level(levels: tuple[Level, ...], factors: Factors) -> int:
    """The last level that has as many pixels as are wanted, or more, either way.

    By size, not by factor: levels' sizes are rounded, down mostly.
    """
    full = levels[0].size
    rows, cols = (int(side / factor) for side, factor in zip(full, factors, strict=True))
    fine = (n for n, at in enumerate(levels) if at.size.rows >= rows and at.size.cols >= cols)
    return max(fine, default=0)


def _beside(nodata: float, dtype: np.dtype[Any]) -> float:
    if dtype.kind == "f":
        return float(np.nextafter(dtype.type(nodata), dtype.type(np.inf)))
    return nodata - 1 if nodata == np.iinfo(dtype).max else nodata + 1


def on_grid(image: Source, factors: Factors | None) -> Source:
    """`image` on the grid of pixels that span `factors` of its own; itself for None."""
    return image if factors is None else ResampledSource(image, factors)
