"""Masks as class maps: files of any format, arrays, and the results of runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.georef import Georef
from tilseg.sink import windows_of
from tilseg.sinks.zarr import MaskStore
from tilseg.source import Source, open_source
from tilseg.truth.class_map import IGNORED, MAX_CLASSES
from tilseg.truth.legend import Legend
from tilseg.window import Size, Window

# Values that are no class unless the user says so: what tilseg itself writes for nodata.
_NO_CLASS = (255, 65535)
_STEP = Size(1024, 1024)
# A pixel's number, of int16 or uint16, plus this is its place in a table; place 0 is for
# pixels that a mask hides. Places are intp, which numpy looks up three times as fast.
_ZERO = 32769
_PLACES = _ZERO + 65536

Image = str | os.PathLike[str] | NDArray[Any]
_Look = Callable[[Window], NDArray[np.intp]]


@dataclass(frozen=True, slots=True)
class RasterMap:
    """A mask whose numbers are looked up in a table; see `ClassMap` for the other fields.

    look: (rows, cols) places in `table` of the pixels of a window. table: the class of each
    place, IGNORED for none. release: closes what is open.
    """

    path: str
    shape: Size
    georef: Georef
    look: _Look
    table: NDArray[np.uint16]
    values: tuple[int, ...]
    release: Callable[[], None]
    names: dict[int, str] = field(default_factory=dict)
    colors: dict[int, str] = field(default_factory=dict)
    background: int | None = 0
    notes: tuple[str, ...] = ()

    def read(self, window: Window) -> NDArray[np.uint16]:
        return np.take(self.table, self.look(window))

    def close(self) -> None:
        self.release()


def open_raster(
    image: Image,
    legend: Legend | None = None,
    ignore: Sequence[int] | None = None,
    *,
    numbers: bool = True,
) -> RasterMap:
    """The mask in a file, an array, a `mask.zarr` or the directory of a run.

    It is read once, to see which values occur. Without a class are: the values in `ignore`
    (None: 255 and 65535), the file's own nodata value unless that is 0, and what an alpha band
    or an internal mask hides. A mask that holds 0 and 255 and nothing else has the classes 0
    and 1, unless `ignore` or its own nodata value says that 255 is none.

    legend: turns colours, and with `numbers` also numbers, into classes.
    Raises InputError: those of `open_source`, E-CLASSES-DTYPE, -BANDS, -NEGATIVE, -MANY,
    E-LEGEND-UNKNOWN.
    """
    if isinstance(image, np.ndarray):
        image = _narrow(image)
    else:
        store = _store(Path(image))
        if store is not None:
            return _of_store(store, ignore)
        mask = Path(image, "mask.tif")
        image = mask if mask.is_file() else image
    coloured = legend is not None and bool(legend.rgb)
    source = _open(image, "expand" if coloured and numbers else "index")
    path = "array" if isinstance(image, np.ndarray) else str(image)
    if source.dtype.kind == "f":
        raise InputError("E-CLASSES-DTYPE", path=path, dtype=source.dtype)
    if legend is not None and coloured and source.bands == 3 and source.dtype == np.uint8:
        return _of_colours(source, path, legend)
    if source.bands != 1:
        raise InputError("E-CLASSES-BANDS", path=path, bands=source.bands)
    return _of_numbers(source, path, legend if numbers else None, ignore)


def _store(path: Path) -> MaskStore | None:
    """The finished mask that `path` is, or that is in the directory of a run."""
    inner = path / "mask.zarr"
    path = inner if inner.is_dir() else path
    if not (path / "0" / "zarr.json").is_file():
        return None
    try:
        store = MaskStore.open(path)
    except InputError:
        # Somebody else's zarr, for which there is a reader.
        return None
    return store if store.finished else None


def _open(image: Image, palette: Literal["index", "expand"]) -> Source:
    try:
        return open_source(image)
    except InputError as error:
        if error.id != "E-INPUT-PALETTE":
            raise
    return open_source(image, palette=palette)


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    """Wide integers, as argmax and label return them, in 16 bits where they fit."""
    if array.dtype.kind in "iu" and array.dtype.itemsize > 2 and array.size:
        low, high = int(array.min()), int(array.max())
        for dtype in (np.uint16, np.int16):
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return array.astype(dtype)
    return array


def _of_store(store: MaskStore, ignore: Sequence[int] | None) -> RasterMap:
    def look(window: Window) -> NDArray[np.intp]:
        return store.read(window).astype(np.intp) + _ZERO

    path = str(store.path)
    table, values = _table(path, _numbers(look, store.shape), {*(ignore or ()), store.nodata})
    return RasterMap(
        path=path,
        shape=store.shape,
        georef=store.georef,
        look=look,
        table=table,
        values=values,
        release=lambda: None,
        names={value: one.name for value, one in enumerate(store.classes)},
        colors={value: one.color for value, one in enumerate(store.classes)},
        background=store.background,
    )


def _of_numbers(
    source: Source, path: str, legend: Legend | None, ignore: Sequence[int] | None
) -> RasterMap:
    def look(window: Window) -> NDArray[np.intp]:
        return _hide(source, window, source.read(window)[..., 0].astype(np.intp) + _ZERO)

    numbers = _numbers(look, source.shape)
    hidden = {*(_NO_CLASS if ignore is None else ignore)}
    stated = {int(source.nodata)} if source.nodata else set()
    class_of: dict[int, int] = {}
    notes = []
    if legend is not None:
        class_of = _by_number(path, numbers, hidden | stated, legend)
    elif ignore is None and 255 not in stated and numbers == {0, 255}:
        class_of, hidden = {255: 1}, set()
        notes.append(f"{path}: holds 0 and 255 alone, taken as the classes 0 and 1")
    if source.nodata == 0 and 0 in numbers and (ignore is None or 0 not in ignore):
        notes.append(f"{path}: calls 0 nodata; it is taken as a class unless ignored")
    table, values = _table(path, numbers, hidden | stated, class_of)
    return RasterMap(
        path=path,
        shape=source.shape,
        georef=source.georef,
        look=look,
        table=table,
        values=values,
        release=source.close,
        names={} if legend is None else legend.names,
        colors={} if legend is None else legend.colors,
        notes=tuple(notes),
    )


def _by_number(path: str, numbers: set[int], hidden: set[int], legend: Legend) -> dict[int, int]:
    """What the legend says of every number that occurs."""
    for number in sorted(numbers - hidden):
        if number not in legend.class_of:
            raise InputError("E-LEGEND-UNKNOWN", path=path, found=number, legend=legend.path)
    return {number: legend.class_of[number] for number in numbers - hidden}


def _of_colours(source: Source, path: str, legend: Legend) -> RasterMap:
    known = sorted(legend.rgb)
    colours = np.array(known, np.intp)
    class_of = np.array([legend.rgb[colour] for colour in known], np.intp)
    places = np.where(class_of == IGNORED, 0, class_of + _ZERO).astype(np.intp)

    def look(window: Window) -> NDArray[np.intp]:
        red, green, blue = np.moveaxis(source.read(window).astype(np.intp), -1, 0)
        pixels = red << 16 | green << 8 | blue
        index = np.minimum(np.searchsorted(colours, pixels), len(colours) - 1)
        found = np.where(colours[index] == pixels, places[index], -1).astype(np.intp)
        found = _hide(source, window, found)
        if found.min() < 0:
            row, col = np.argwhere(found < 0)[0]
            colour = f"#{pixels[row, col]:06x} (row {window.row + row}, col {window.col + col})"
            raise InputError("E-LEGEND-UNKNOWN", path=path, found=colour, legend=legend.path)
        return found

    table, values = _table(path, _numbers(look, source.shape), set())
    return RasterMap(
        path=path,
        shape=source.shape,
        georef=source.georef,
        look=look,
        table=table,
        values=values,
        release=source.close,
        names=legend.names,
        colors=legend.colors,
    )


def _hide(source: Source, window: Window, places: NDArray[np.intp]) -> NDArray[np.intp]:
    """`places`, 0 where alpha or an internal mask hides the pixel."""
    shown = source.mask(window)
    return places if shown is None else places * shown


def _numbers(look: _Look, shape: Size) -> set[int]:
    """The numbers of all pixels that are not hidden."""
    there = np.zeros(_PLACES, bool)
    for window in windows_of(shape, _STEP):
        there[look(window)] = True
    return {int(place) - _ZERO for place in np.flatnonzero(there) if place}


def _table(
    path: str, numbers: set[int], hidden: set[int], class_of: dict[int, int] | None = None
) -> tuple[NDArray[np.uint16], tuple[int, ...]]:
    """`RasterMap.table`, and the classes that occur.

    Raises InputError E-CLASSES-NEGATIVE or E-CLASSES-MANY.
    """
    table = np.full(_PLACES, IGNORED, np.uint16)
    for number in sorted(numbers - hidden):
        value = (class_of or {}).get(number, number)
        if value < 0:
            raise InputError("E-CLASSES-NEGATIVE", path=path, value=value)
        table[number + _ZERO] = value
    values = tuple(int(value) for value in np.unique(table) if value != IGNORED)
    if len(values) > MAX_CLASSES:
        raise InputError("E-CLASSES-MANY", path=path, count=len(values), allowed=MAX_CLASSES)
    return table, values
