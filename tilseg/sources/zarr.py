"""OME-Zarr 0.1 to 0.5 and plain zarr arrays (v2 and v3), in a folder.

An array that is not OME-Zarr needs axes that say what they are: the dimension names of zarr
v3, or xarray's; without names two axes are rows and columns, and three are rows, columns and
bands where the last is the shortest. Chunks that are not stored read as the array's fill
value, as zarr defines it.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.storage
from numpy.typing import NDArray

from tilseg.choice import Choice
from tilseg.errors import InputError, TilsegError
from tilseg.georef import Georef
from tilseg.source import Level, Source
from tilseg.sources import ngff
from tilseg.sources.axes import Axis, band_names, check_range, places, with_number
from tilseg.sources.base import FileSource, supported_dtype
from tilseg.sources.limits import MAX_SEGMENT, check_stored, needed_segments, too_large
from tilseg.sources.zarr_guard import ChunkGuard
from tilseg.window import Size, Window

_NAMES = {
    "y": "y", "lat": "y", "latitude": "y", "northing": "y", "row": "y",
    "x": "x", "lon": "x", "longitude": "x", "easting": "x", "col": "x", "column": "x",
    "c": "c", "channel": "c", "band": "c", "bands": "c", "z": "z", "t": "t", "time": "t",
}  # fmt: skip
_OPTIONS = {"c": "channel", "z": "z", "t": "t"}
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


@dataclass(frozen=True, slots=True)
class _Image:
    """Arrays of the levels, names of their axes, scales of rows and columns, and the rest."""

    arrays: tuple[Any, ...]
    axes: tuple[str, ...]
    scales: tuple[tuple[float, float], ...]
    georef: Georef
    nodata: float | None
    names: tuple[str, ...]


def open_path(path: Path, choice: Choice) -> Source:
    """The image in the folder at `path`.

    Raises InputError E-INPUT-READ for a folder that is no image or is damaged, -AMBIGUOUS,
    -DTYPE, -SEGMENT; UsageError for a choice it does not offer.
    """
    choice.refuse_all_but(path, "series", "channel", "z", "t")
    with _in_words(path):
        node = zarr.open(zarr.storage.LocalStore(path, read_only=True), mode="r")
        image = _plain(path, node) if isinstance(node, zarr.Array) else _ome(path, node, choice)
        return ZarrSource(path, choice, image)


def _ome(path: Path, group: Any, choice: Choice) -> _Image:
    attributes = dict(group.attrs)
    images = ngff.multiscales(attributes)
    if not images:
        held = sorted(group.keys(), key=lambda key: (len(key), key))
        # bioformats2raw numbers the images it writes: 0, 1, ...
        numbered = [key for key in held if key.isdecimal()]
        if "bioformats2raw.layout" not in ngff.ome(attributes) or not numbered:
            names = ", ".join(held) or "nothing"
            raise _refuse(
                path, f"is a zarr group that is no image; give the path of one it holds ({names})"
            )
        return _ome(path, group[numbered[_series(path, numbered, choice)]], Choice())
    image = images[_series(path, [f"{len(one.datasets)} levels" for one in images], choice)]
    georef, nodata = ngff.tilseg_place(attributes)
    return _Image(
        arrays=tuple(group[one.path] for one in image.datasets),
        axes=image.axes,
        scales=tuple((image.along("y", one), image.along("x", one)) for one in image.datasets),
        georef=georef or Georef(pixel_size=image.pixel_size),
        nodata=nodata,
        names=ngff.channel_names(attributes),
    )


def _series(path: Path, listed: list[str], choice: Choice) -> int:
    """The chosen one of several images, or the only one."""
    if choice.series is not None:
        check_range(path, "series", choice.series, len(listed))
        return choice.series
    if len(listed) > 1:
        found = f"holds {len(listed)} images ({', '.join(listed)})"
        choose = f"series from 0 to {len(listed) - 1}"
        raise InputError("E-INPUT-AMBIGUOUS", path=path, found=found, choose=choose)
    return 0


def _plain(path: Path, array: Any) -> _Image:
    """An array that is no OME-Zarr."""
    named = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    shape = " x ".join(map(str, array.shape))
    if named and None not in named:
        axes = tuple(_NAMES.get(str(name).lower(), str(name)) for name in named)
        if axes.count("y") != 1 or axes.count("x") != 1:
            raise _refuse(path, f"has the axes {', '.join(map(str, named))}; two must be y and x")
    elif array.ndim == 2:
        axes = ("y", "x")
    elif array.ndim == 3 and array.shape[2] < min(array.shape[:2]):
        axes = ("y", "x", "c")
    else:
        raise _refuse(path, f"is an array of {shape} whose axes have no names (dimension_names)")
    fill = array.attrs.get("_FillValue")
    nodata = float(fill) if isinstance(fill, int | float) else None
    return _Image((array,), axes, ((1.0, 1.0),), Georef(), nodata, ())


class ZarrSource(FileSource[Path]):
    """A zarr image. zarr opens and closes files at every read: there is nothing to keep."""

    def __init__(self, path: Path, choice: Choice, image: _Image) -> None:
        first = image.arrays[0]
        choice = with_number(path, choice, image.names)
        axes = [
            Axis(name, size, _OPTIONS.get(name, ""))
            for name, size in zip(image.axes, first.shape, strict=True)
            if name not in "yx"
        ]
        shown = " x ".join(f"{a} {n}" for a, n in zip(image.axes, first.shape, strict=True))
        chosen, channels = places(path, axes, choice, shown=shown, bands_inside=False)
        self._axes = image.axes
        self._place = dict(zip((axis.name for axis in axes), chosen[0], strict=True))
        self._channels = channels
        levels = list(_levels(path, image))
        self._arrays = [array for array, _ in levels]
        self._guards = [ChunkGuard(path, array) for array in self._arrays]
        super().__init__(
            path,
            choice,
            reader=f"zarr {zarr.__version__}",
            dtype=supported_dtype(first.dtype, path),
            band_names=band_names(image.names, choice, len(chosen)),
            levels=tuple(level for _, level in levels),
            georef=image.georef,
            nodata=image.nodata,
            segment_bytes=max(_chunk_bytes(array) for array in self._arrays),
        )

    def _read(self, window: Window, level: int, bands: tuple[int, ...]) -> NDArray[Any]:
        if not self._channels:
            return self._planes(window, level, slice(0, 1))[..., [0] * len(bands)]
        pixels = np.empty((*window.size, len(bands)), self.dtype)
        for run in _runs(bands):
            planes = self._planes(window, level, slice(run[0], run[-1] + 1))
            for k, band in enumerate(bands):
                if band in run:
                    pixels[..., k] = planes[..., band - run[0]]
        return pixels

    def _planes(self, window: Window, level: int, channels: slice) -> NDArray[Any]:
        """(rows, cols, channels) of some channels; of the chosen plane where they are no bands."""
        rows, cols = window.slices
        index: dict[str, Any] = {**self._place, "y": rows, "x": cols}
        left = ["y", "x"]
        if self._channels:
            index["c"] = channels
            left.append("c")
        selection = tuple(index[axis] for axis in self._axes)
        with _in_words(self.path, window):
            self._guards[level].check(selection)
            pixels = np.asarray(self._arrays[level][selection])
        kept = [axis for axis in self._axes if axis in left]
        pixels = pixels.transpose([kept.index(axis) for axis in left])
        return pixels if self._channels else pixels[..., None]

    def identity(self) -> dict[str, Any]:
        """Hash of all metadata, and of the names, sizes and times of change of all chunks."""
        digest = hashlib.sha256()
        for folder, folders, files in os.walk(self.path):
            folders.sort()
            for name in sorted(files):
                file = Path(folder, name)
                status = file.stat()
                digest.update(f"{file.relative_to(self.path)} {status.st_size}".encode())
                digest.update(f" {status.st_mtime_ns}".encode())
                if name in _METADATA:
                    digest.update(file.read_bytes())
        place = {"path": str(self.path.resolve()), "choice": str(self.choice)}
        return {**place, "sha256_listing": digest.hexdigest()}

    def close(self) -> None:
        """Nothing is held open."""


def _levels(path: Path, image: _Image) -> Iterator[tuple[Any, Level]]:
    """Arrays that show the whole image, ever smaller, with their levels."""
    rows, cols = image.axes.index("y"), image.axes.index("x")
    full, last = image.arrays[0], None
    for array, scale in zip(image.arrays, image.scales, strict=True):
        size = _chunk_bytes(array)
        if size > MAX_SEGMENT:
            raise too_large(path, "chunk", size)
        _check_stored(path, array)
        factors = [a / b for a, b in zip(scale, image.scales[0], strict=True)]
        for k, factor in zip((rows, cols), factors, strict=True):
            if abs(array.shape[k] * factor - full.shape[k]) > factor:
                raise _refuse(path, f"has a level of {array.shape}, which its scale {scale} belies")
        level = Level(Size(array.shape[rows], array.shape[cols]), factors[0], factors[1])
        if level.size.area == 0:
            raise _refuse(path, f"is an array of {array.shape}")
        if last is None or level.size.area < last:
            yield array, level
            last = level.size.area


def _chunk_bytes(array: Any) -> int:
    return int(math.prod(array.chunks) * array.dtype.itemsize)


def _check_stored(path: Path, array: Any) -> None:
    stored = array.shards or array.chunks
    count = math.prod(-(-n // side) for n, side in zip(array.shape, stored, strict=True))
    pixels = math.prod(array.shape)
    needed = needed_segments(pixels, count)
    files = (name for _, _, names in os.walk(path / array.path) for name in names)
    # Counted only as far as is needed.
    found = sum(1 for _ in itertools.islice(files, needed + 1))
    check_stored(path, pixels=pixels, stored=found - 1, count=count, kind="chunk")


def _runs(bands: tuple[int, ...]) -> list[list[int]]:
    """The distinct bands as runs of neighbours, ascending."""
    runs: list[list[int]] = []
    for band in sorted(set(bands)):
        if runs and runs[-1][-1] == band - 1:
            runs[-1].append(band)
        else:
            runs.append([band])
    return runs


def _refuse(path: Path, reason: str) -> InputError:
    return InputError("E-INPUT-READ", path=path, reason=reason)


@contextmanager
def _in_words(path: Path, window: Window | None = None) -> Iterator[None]:
    """The many exceptions of zarr, its codecs and of odd metadata, as an InputError."""
    try:
        yield
    except (TilsegError, NameError, MemoryError):
        raise
    except Exception as error:
        place = f"{window} can't be read" if window else "can't be opened as zarr"
        reason = f"{place}: {type(error).__name__} {error}"
        raise _refuse(path, reason) from error
