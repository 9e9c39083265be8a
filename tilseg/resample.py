"""Pixels on another grid, each from its place on that grid alone: the arithmetic.

The kernel is a triangle: linear interpolation between pixels, and where the new pixels are larger,
widened with them so that nothing is skipped (as Pillow and PyTorch do with antialiasing). Because a
pixel depends on its number along each axis and on nothing else, and is summed in a set order, any
window gives the same bits as the whole image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]
Weights = NDArray[np.float64]

_PIECE = 2**20  # values summed at a time: what fits a processor's cache is done much sooner


@dataclass(frozen=True, slots=True)
class Taps:
    """What each of n output pixels is summed from: index and weight, both (n, taps).

    Weights of a pixel add up to 1; some may be 0.
    """

    index: Indices
    weight: Weights

    @property
    def span(self) -> tuple[int, int]:
        """First input pixel, and the one after the last."""
        return int(self.index.min()), int(self.index.max()) + 1

    def part(self, start: int, stop: int, origin: int) -> Taps:
        """Those of output pixels start..stop-1, with indices counted from `origin`."""
        return Taps(self.index[start:stop] - origin, self.weight[start:stop])


def grid_length(size: int, factor: float) -> int:
    """Pixels of a new grid on an axis of `size`: those whose centre is on it, and at least one."""
    return max(1, int(np.floor(size / factor + 0.5)))


def taps(start: int, stop: int, size: int, factor: float) -> Taps:
    """Taps of the output pixels start..stop-1 on an axis of `size` input pixels.

    factor: input pixels that an output pixel spans. Output pixel i has its centre at
    (i + 1/2) factor, input pixel j at j + 1/2; the weight falls from the centre to nothing at a
    distance of max(1, factor). What would lie beyond the edge has no weight.
    """
    support = max(1.0, factor)
    # The sizes of pyramid levels are rounded: the last centre can be outside by that.
    centre = np.minimum((np.arange(start, stop) + 0.5) * factor, size)[:, None]
    count = int(min(np.ceil(2 * support) + 1, size))
    first = np.clip(np.floor(centre - support + 0.5), 0, size - count)
    index = first.astype(np.intp) + np.arange(count)
    weight = np.maximum(0.0, 1.0 - np.abs(index + 0.5 - centre) / support)
    total = weight[:, 0].copy()
    for k in range(1, weight.shape[1]):
        total += weight[:, k]
    return Taps(index, weight / total[:, None])


def nearest(start: int, stop: int, size: int, factor: float) -> Indices:
    """The pixel in which the centre of each of the pixels start..stop-1 of another grid lies.

    size: of the axis in pixels that span `factor` of the other grid's; what lies beyond the last
    one counts as in it. Returns (stop - start,) intp.
    """
    centre = (np.arange(start, stop) + 0.5) / factor
    index: Indices = np.minimum(np.floor(centre), size - 1).astype(np.intp)
    return index


def resample(pixels: NDArray[Any], rows: Taps, cols: Taps) -> NDArray[np.floating]:
    """Weighted sums of (rows, cols, ...) pixels: (n rows, n cols, ...), not rounded.

    float32 for pixels of one byte, float64 for all others.
    """
    dtype = np.float32 if pixels.dtype.itemsize == 1 else np.float64
    values = int(np.prod(pixels.shape[2:]))
    step = max(1, _PIECE // (values * max(pixels.shape[1], len(cols.index))))
    total = np.empty((len(rows.index), len(cols.index), *pixels.shape[2:]), dtype)
    for start in range(0, len(rows.index), step):
        stop = min(start + step, len(rows.index))
        down = _weighted(pixels, rows.part(start, stop, 0), dtype)
        across = _weighted(np.ascontiguousarray(down.swapaxes(0, 1)), cols, dtype)
        total[start:stop] = across.swapaxes(0, 1)
    return total


def _weighted(pixels: NDArray[Any], taps: Taps, dtype: Any) -> NDArray[Any]:
    """Sums along the first axis, tap after tap: never in an order that depends on the window."""
    weight = taps.weight.astype(dtype).reshape(*taps.weight.shape, *(1,) * (pixels.ndim - 1))
    total: NDArray[Any] = pixels[taps.index[:, 0]] * weight[:, 0]
    for k in range(1, taps.index.shape[1]):
        total += pixels[taps.index[:, k]] * weight[:, k]
    return total
