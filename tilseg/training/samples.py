"""One image with its labels, read patch by patch and mirrored at its edge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.model import BandStatistics
from tilseg.nodata import fill_invalid, valid_pixels
from tilseg.source import Source
from tilseg.truth.class_map import IGNORED, ClassMap
from tilseg.window import Size, Window, read_mirrored

IGNORE = 255  # label of a pixel without one: it has no part in loss or score

Read = Callable[[Window], NDArray[Any]]

_STRIP = 512  # rows read at a time when a whole mask is looked through


@dataclass(frozen=True, slots=True)
class Sample:
    """A labelled image, or the part of one that belongs to training or to validation.

    shape: its size; windows count from its own corner and may reach outside, mirrored there.
    pixels: in-bounds read of raw (rows, cols, bands), nodata filled with the band mean.
    truth: in-bounds read of (rows, cols) uint8 class values, IGNORE where there is none.
    valid: in-bounds read of (rows, cols) bool, where the image has data; or None, where all has.
    """

    name: str
    group: str
    shape: Size
    statistics: BandStatistics
    pixels: Read
    truth: Read
    valid: Callable[[Window], NDArray[np.bool_] | None]

    def raw(self, window: Window) -> NDArray[Any]:
        """Pixels of `window` as they are in the image: (rows, cols, bands), its dtype."""
        return read_mirrored(self.pixels, window, self.shape)

    def input(self, window: Window) -> NDArray[np.float32]:
        """Normalised network input of `window`: (rows, cols, bands) float32."""
        return self.normalised(self.raw(window))

    def normalised(self, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Raw pixels (rows, cols, bands) as the network sees them."""
        # Whole rows at a time: an innermost axis of a few bands takes several times as long.
        rows, cols, bands = pixels.shape
        mean, std = self.statistics.mean, self.statistics.std
        normal = pixels.astype(np.float32).reshape(rows, cols * bands)
        normal -= np.tile(np.asarray(mean, np.float32), cols)
        normal /= np.tile(np.asarray(std, np.float32), cols)
        return normal.reshape(pixels.shape)

    def labels(self, window: Window) -> NDArray[np.uint8]:
        """Class values of a window inside: (rows, cols) uint8, IGNORE where there is no data."""
        truth, valid = self.truth(window), self.valid(window)
        return truth if valid is None else np.where(valid, truth, np.uint8(IGNORE))

    def target(self, window: Window) -> NDArray[np.uint8]:
        """The same for any window."""
        return read_mirrored(self.labels, window, self.shape)

    def strips(self) -> Iterator[Window]:
        """Windows that cover the sample once."""
        for row in range(0, self.shape.rows, _STRIP):
            yield Window(row, 0, min(_STRIP, self.shape.rows - row), self.shape.cols)

    def class_pixels(self) -> NDArray[np.int64]:
        """How many pixels carry each label: (256,) int64, the last one IGNORE."""
        counts = np.zeros(256, np.int64)
        for window in self.strips():
            counts += np.bincount(self.labels(window).ravel(), minlength=256)
        return counts


def make_sample(
    name: str,
    image: Source,
    labels: ClassMap,
    *,
    statistics: BandStatistics,
    group: str = "",
    region: Window | None = None,
    counted: Window | None = None,
) -> Sample:
    """The `region` of an image and its labels, None for all; read when they are asked for.

    counted: the window of the image outside of which there is no label, None for all of it.
    """
    region = region or Window.whole(image.shape)
    inner = (counted or region).relative_to(region)

    def pixels(window: Window) -> NDArray[Any]:
        place = _moved(window, region)
        raw = image.read(place)
        return fill_invalid(raw, valid_pixels(raw, image.nodata, image.mask(place)), statistics)

    def truth(window: Window) -> NDArray[np.uint8]:
        found = labels.read(_moved(window, region))
        values = np.where(found == IGNORED, IGNORE, found).astype(np.uint8)
        return values if inner.contains(window) else _only(values, window, inner)

    def valid(window: Window) -> NDArray[np.bool_] | None:
        return _valid(image, _moved(window, region))

    return Sample(name, group, region.size, statistics, pixels, truth, valid)


def in_memory(sample: Sample) -> Sample:
    """The same sample with its pixels decoded once and for all."""
    pixels = sample.pixels(Window.whole(sample.shape))
    # Strip by strip: on their way, labels take eight bytes a pixel.
    truth = np.concatenate([sample.truth(strip) for strip in sample.strips()])
    valid = np.concatenate([_filled(sample.valid(strip), strip) for strip in sample.strips()])
    everywhere = bool(valid.all())
    return replace(
        sample,
        pixels=lambda window: pixels[window.slices],
        truth=lambda window: truth[window.slices],
        valid=lambda window: None if everywhere else valid[window.slices],
    )


def _filled(valid: NDArray[np.bool_] | None, window: Window) -> NDArray[np.bool_]:
    return np.ones(window.size, np.bool_) if valid is None else valid


def _moved(window: Window, region: Window) -> Window:
    return Window(window.row + region.row, window.col + region.col, window.rows, window.cols)


def _only(values: NDArray[np.uint8], window: Window, inner: Window) -> NDArray[np.uint8]:
    """The values of a window that lie in `inner`, IGNORE elsewhere."""
    kept = np.full_like(values, IGNORE)
    part = window.intersection(inner)
    if part.size.area:
        place = part.relative_to(window).slices
        kept[place] = values[place]
    return kept


def _valid(image: Source, place: Window) -> NDArray[np.bool_] | None:
    """Where the image has data, decoding its pixels only if they can say otherwise."""
    mask = image.mask(place)
    if image.nodata is None and image.dtype.kind != "f":
        return mask
    return valid_pixels(image.read(place), image.nodata, mask)
