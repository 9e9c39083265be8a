"""One image with its class mask, read patch by patch and mirrored at its edge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.model import BandStatistics
from tilseg.nodata import fill_invalid, valid_pixels
from tilseg.source import Source
from tilseg.window import Size, Window, read_mirrored

IGNORE = 255  # label of a pixel without one: it has no part in loss or score

Read = Callable[[Window], NDArray[Any]]

_STRIP = 512  # rows read at a time when a whole mask is looked through


@dataclass(frozen=True, slots=True)
class Sample:
    """A labelled image, or the part of one that belongs to training or to validation.

    shape: its size; windows count from its own corner and may reach outside, mirrored there.
    pixels: in-bounds read of raw (rows, cols, bands), nodata filled with the band mean.
    labels: in-bounds read of (rows, cols) uint8 class values, IGNORE where there is none.
    """

    name: str
    group: str
    shape: Size
    statistics: BandStatistics
    pixels: Read
    labels: Read

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

    def target(self, window: Window) -> NDArray[np.uint8]:
        """Class values of `window`: (rows, cols) uint8."""
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
    mask: Source,
    *,
    region: Window,
    statistics: BandStatistics,
    classes: tuple[str, ...],
) -> Sample:
    """The `region` of an image and its mask; pixels are read when they are asked for."""

    def pixels(window: Window) -> NDArray[Any]:
        place = _moved(window, region)
        raw = image.read(place)
        return fill_invalid(raw, valid_pixels(raw, image.nodata, image.mask(place)), statistics)

    def labels(window: Window) -> NDArray[np.uint8]:
        place = _moved(window, region)
        found = _class_values(mask, place, classes)
        valid = _valid(image, place)
        return found if valid is None else np.where(valid, found, np.uint8(IGNORE))

    group = name.rpartition("/")[0]
    return Sample(name, group, region.size, statistics, pixels, labels)


def in_memory(sample: Sample) -> Sample:
    """The same sample with its pixels decoded once and for all."""
    whole = Window.whole(sample.shape)
    pixels, labels = sample.pixels(whole), sample.labels(whole)
    return Sample(
        sample.name,
        sample.group,
        sample.shape,
        sample.statistics,
        lambda window: pixels[window.slices],
        lambda window: labels[window.slices],
    )


def check_mask(image: Source, mask: Source) -> None:
    """Refuse a mask that can't belong to `image`.

    Raises InputError (exit 4): E-TRAIN-MASK, E-TRAIN-SIZE.
    """
    if mask.bands != 1 or mask.dtype.kind not in "bui":
        raise InputError("E-TRAIN-MASK", path=mask.uri, bands=mask.bands, dtype=mask.dtype)
    if mask.shape != image.shape:
        raise InputError(
            "E-TRAIN-SIZE",
            path=mask.uri,
            mask_rows=mask.shape.rows,
            mask_cols=mask.shape.cols,
            rows=image.shape.rows,
            cols=image.shape.cols,
        )


def _moved(window: Window, region: Window) -> Window:
    return Window(window.row + region.row, window.col + region.col, window.rows, window.cols)


def _valid(image: Source, place: Window) -> NDArray[np.bool_] | None:
    """Where the image has data, decoding its pixels only if they can say otherwise."""
    mask = image.mask(place)
    if image.nodata is None and image.dtype.kind != "f":
        return mask
    return valid_pixels(image.read(place), image.nodata, mask)


def _class_values(mask: Source, place: Window, classes: tuple[str, ...]) -> NDArray[np.uint8]:
    raw = mask.read(place)[..., 0]
    unlabelled = _unlabelled(mask, len(classes))
    labels = np.full(raw.shape, IGNORE, np.uint8)
    known = (raw >= 0) & (raw < len(classes))
    labels[known] = raw[known]
    wrong = raw[~known & ~np.isin(raw, unlabelled)]
    if wrong.size:
        values = np.unique(wrong)
        listed = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
        raise InputError(
            "E-TRAIN-CLASS",
            path=mask.uri,
            values=f"the undeclared value{'s' if len(values) > 1 else ''} {listed}",
            classes=", ".join(classes),
            last=len(classes) - 1,
            unlabelled=" or ".join(map(str, unlabelled)),
        )
    return labels


def _unlabelled(mask: Source, classes: int) -> list[int]:
    # A nodata tag that names a class (0, mostly) is the tag of a careless writer: --classes
    # was given on purpose.
    values = {IGNORE, int(np.iinfo(mask.dtype).max) if mask.dtype.kind in "ui" else IGNORE}
    if mask.nodata is not None and float(mask.nodata).is_integer() and mask.nodata >= classes:
        values.add(int(mask.nodata))
    return sorted(values)
