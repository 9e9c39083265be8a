"""Normalisation constants of a run, fixed before the image is cut into tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.card import Normalization
from tilseg.errors import InputError
from tilseg.model import BandStatistics
from tilseg.nodata import valid_pixels
from tilseg.side_by_side import side_by_side
from tilseg.source import Source
from tilseg.window import Size, Window

# The sample: at most _SITES x _SITES windows of _PATCH x _PATCH pixels on an even lattice, and
# the whole image where that is less. A million pixels bound the cost on any image, but for one
# whose data lie between all of them: then the lattice is made denser until it meets some.
_SITES = 16
_DENSER = (32, 64, 128)
_PATCH = 64


def sample_windows(shape: Size, sites: int = _SITES) -> Iterator[Window]:
    """The windows of the fixed lattice sample of an image of `shape`, in raster order."""
    for row, rows in _axis(shape.rows, sites):
        for col, cols in _axis(shape.cols, sites):
            yield Window(row, col, rows, cols)


def _axis(pixels: int, sites: int) -> list[tuple[int, int]]:
    if pixels <= sites * _PATCH:
        return [(start, min(_PATCH, pixels - start)) for start in range(0, pixels, _PATCH)]
    step = (pixels - _PATCH) / (sites - 1)
    return [(round(site * step), _PATCH) for site in range(sites)]


def band_statistics(
    source: Source, normalization: Normalization, *, level: int = 0, bands: Sequence[int]
) -> BandStatistics:
    """Resolve `normalization` for `bands` (0-based) of one level of an image.

    Constants are taken as they are, for pixels of the scale that they are of. "image" takes mean and standard deviation of the valid
    pixels of the lattice sample, band by band, "joint" those of all bands together, "percentiles"
    two percentiles of each band; what has no contrast gets std 1. Windows of the sample that can't be read take no part.

    Raises InputError E-INPUT-SCALE for constants of other pixels, E-INPUT-NO-DATA when the sample
    holds no valid pixel, or what `read` raises when none of it can be read.
    """
    _check_scale(source, normalization)
    if normalization.kind == "constants" and normalization.orient is None:
        return BandStatistics(normalization.mean, normalization.std)
    sample = _sample(source, level, bands)
    if not len(sample):
        raise InputError("E-INPUT-NO-DATA", path=source.uri)
    if normalization.kind == "constants":
        mean, std = np.array(normalization.mean), np.array(normalization.std)
    elif normalization.percentiles is not None:
        mean, high = np.percentile(sample.astype(np.float64), normalization.percentiles, axis=0)
        std = _contrast(high - mean)
    elif normalization.kind == "joint":
        mean = np.full(len(bands), sample.mean(dtype=np.float64))
        std = _contrast(np.full(len(bands), sample.std(dtype=np.float64)))
    else:
        values = sample.astype(np.float64)
        mean, std = values.mean(axis=0), _contrast(values.std(axis=0))
    if normalization.orient == "bright-on-dark" and _is_dark_on_light(sample):
        if normalization.kind == "percentiles":
            # Turned round, the other end of the range is the one that becomes 0.
            mean = mean + std
        std = -std
    return BandStatistics(tuple(mean.tolist()), tuple(std.tolist()))


def _check_scale(source: Source, normalization: Normalization) -> None:
    wanted = normalization.dtype or source.dtype.name
    # What 16 bits hold is counted alike with and without a sign.
    if source.dtype.name != wanted and {source.dtype.name, wanted} != {"uint16", "int16"}:
        raise InputError("E-INPUT-SCALE", path=source.uri, dtype=source.dtype, wanted=wanted)


def _sample(source: Source, level: int, bands: Sequence[int]) -> NDArray[Any]:
    """Valid pixels of the lattice sample: (pixels, bands)."""

    def read(window: Window) -> NDArray[Any] | InputError:
        try:
            pixels = source.read(window, level, bands)
            mask = source.mask(window, level)
        except InputError as error:
            # The tiles that see it are named when they are computed, and the user has a say.
            return error
        valid = valid_pixels(pixels, source.nodata, mask)
        return pixels.reshape(-1, len(bands)) if valid is None else pixels[valid]

    shape = source.levels[level].size
    for sites in (_SITES, *_DENSER):
        windows = sample_windows(shape, sites)
        found = list(side_by_side(read, windows, max(1, source.segment_bytes)))
        parts = [each for each in found if not isinstance(each, InputError)]
        if not parts:
            raise next(each for each in found if isinstance(each, InputError))
        sample = np.concatenate(parts)
        if len(sample) or max(shape) <= sites * _PATCH:
            break
    return sample


def _contrast(spread: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(spread == 0, 1.0, spread)


def _is_dark_on_light(sample: NDArray[Any]) -> bool:
    # The ground is what most pixels show: if the median lies nearer to the light end of the
    # histogram than to the dark end, objects are the dark part.
    low, middle, high = np.percentile(sample.mean(axis=1, dtype=np.float64), [1, 50, 99])
    return bool(high - middle < middle - low)
