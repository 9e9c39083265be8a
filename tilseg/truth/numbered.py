"""Maps that number their objects: label images, and `labels.zarr` of a result."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.georef import Georef
from tilseg.regions.names import LABELS
from tilseg.sinks.shards import BlockArray
from tilseg.sinks.zarr import MaskStore
from tilseg.source import open_source
from tilseg.stores import MASK
from tilseg.truth.class_map import IGNORED
from tilseg.window import Size, Window

Image = str | os.PathLike[str] | NDArray[Any]
Look = Callable[[Window], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class NumberedMap:
    """A class map of 0, no object, and 1, an object; see `ClassMap` for the fields.

    numbers: (rows, cols) int64 of a window: the number of each pixel's object, 0 for none, -1
    where nothing is known.
    """

    path: str
    shape: Size
    georef: Georef
    numbers: Look
    close: Callable[[], None]
    values: tuple[int, ...] = (0, 1)
    names: Mapping[int, str] = field(default_factory=lambda: {0: "none", 1: "object"})
    colors: Mapping[int, str] = field(default_factory=dict)
    background: int | None = 0
    notes: tuple[str, ...] = ()

    def read(self, window: Window) -> NDArray[np.uint16]:
        numbers = self.numbers(window)
        return np.where(numbers < 0, IGNORED, numbers > 0).astype(np.uint16)


def open_numbered(image: Image, ignore: Sequence[int] | None = None) -> NumberedMap:
    """The objects of a label image in a file or an array, of a `labels.zarr`, or of a result.

    Unknown are the numbers in `ignore`, the file's own nodata value unless that is 0, and what an
    alpha band or an internal mask hides. A `labels.zarr` has the place of the mask beside it.

    Raises InputError: those of `open_source`, E-OBJECTS-NONE for a folder without labels.zarr,
    E-CLASSES-DTYPE, -BANDS.
    """
    hidden = [*(ignore or ())]
    if isinstance(image, np.ndarray):
        return _of_array(image, hidden)
    path = Path(image)
    labels = path if path.name == LABELS else path / LABELS
    if labels.is_dir():
        return _of_labels(labels, hidden)
    if (path / MASK).is_dir() or path.name == MASK:
        raise InputError("E-OBJECTS-NONE", path=path)
    return _of_file(image, hidden)


def _of_array(array: NDArray[Any], hidden: list[int]) -> NumberedMap:
    if array.dtype.kind not in "bui":
        raise InputError("E-CLASSES-DTYPE", path="array", dtype=array.dtype)
    if array.ndim != 2 or not array.size:
        raise InputError("E-INPUT-SHAPE", shape=array.shape)
    return NumberedMap(
        "array",
        Size(*array.shape),
        Georef(),
        lambda window: _known(array[window.slices], hidden),
        lambda: None,
    )


def _of_labels(path: Path, hidden: list[int]) -> NumberedMap:
    stored = BlockArray.open(path / "0")
    mask = path.parent / MASK
    georef = MaskStore.open(mask).georef if mask.is_dir() else Georef()
    return NumberedMap(
        str(path),
        stored.shape,
        georef,
        lambda window: _known(stored.read(window), hidden),
        lambda: None,
    )


def _of_file(path: str | os.PathLike[str], hidden: list[int]) -> NumberedMap:
    source = open_source(path, palette="index")
    if source.dtype.kind == "f":
        raise InputError("E-CLASSES-DTYPE", path=path, dtype=source.dtype)
    if source.bands != 1:
        raise InputError("E-CLASSES-BANDS", path=path, bands=source.bands)
    unknown = [*hidden, *([int(source.nodata)] if source.nodata else [])]

    def numbers(window: Window) -> NDArray[np.int64]:
        found, shown = _known(source.read(window)[..., 0], unknown), source.mask(window)
        return found if shown is None else np.where(shown, found, -1)

    return NumberedMap(str(path), source.shape, source.georef, numbers, source.close)


def _known(numbers: NDArray[Any], hidden: list[int]) -> NDArray[np.int64]:
    """Negative numbers are unknown, as those that are hidden."""
    found = np.maximum(numbers.astype(np.int64), -1)
    return np.where(np.isin(numbers, hidden), -1, found) if hidden else found
