"""Slides that only OpenSlide reads, with the `wsi` extra: MRXS, NDPI, VMS, SCN, BIF, DICOM.

Three bands of 8 bits; what is transparent was not scanned and is no valid pixel. A slide that
states its bounds (`openslide.bounds-*`) is cropped to them: that is what QuPath shows, and where
it counts pixels from.

OpenSlide takes places in pixels of level 0. On other levels, and on a Leica slide, whose areas lie
anywhere, these may fall between pixels. It then interpolates or rounds, so that a pixel would
depend on the window it is read in: there, each is read from the corner of its cell in a fixed
lattice.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.choice import Choice
from tilseg.errors import InputError
from tilseg.georef import Georef, PixelSize
from tilseg.source import Level, Source, file_identity
from tilseg.sources.base import FileSource
from tilseg.sources.limits import MAX_SEGMENT, check_stored, too_large
from tilseg.window import Size, Window

_CELL = 512
# The header of a JPEG alone takes as many bytes.
_LEAST_TILE = 128
_RGB = ("red", "green", "blue")


@dataclass(frozen=True, slots=True)
class _Stored:
    """A level as OpenSlide has it: its number, its factor over level 0, and whether every place
    is that of a pixel."""

    number: int
    factor: float
    on_pixels: bool


def open_path(path: Path, choice: Choice) -> Source | None:
    """The slide at `path`; None for a file that OpenSlide does not know.

    Raises InputError E-INPUT-EXTRA without OpenSlide, -READ, -SEGMENT; UsageError E-CHOICE.
    """
    if _library(path).OpenSlide.detect_format(path) is None:
        return None
    return OpenSlideSource(path, choice)


def _library(path: Path) -> Any:
    try:
        import openslide
    except (ImportError, OSError):
        raise InputError("E-INPUT-EXTRA", path=path) from None
    return openslide


class OpenSlideSource(FileSource[Path]):
    """A slide and the files that belong to it."""

    def __init__(self, path: Path, choice: Choice) -> None:
        choice.refuse_all_but(path)
        self._library = _library(path)
        self._lock = threading.Lock()
        self._slide: Any = None
        self.path = path
        slide = self._opened()
        properties = dict(slide.properties)
        self._companions = companions(path, properties)
        whole = Window(0, 0, *reversed(slide.dimensions))
        self._bounds = _bounds(properties, whole)
        pairs = list(_levels(slide, properties, whole.size, self._bounds.size))
        self._stored = [stored for stored, _ in pairs]
        tile = _tile_bytes(properties)
        if tile > MAX_SEGMENT:
            raise too_large(path, "tile", tile)
        if tile:
            _check_giant(path, self.files, whole.size.area, tile // 4)
        notes = f"cropped to its bounds, from row {self._bounds.row} and column {self._bounds.col}"
        super().__init__(
            path,
            choice,
            reader=f"OpenSlide {self._library.__library_version__}",
            dtype=np.dtype(np.uint8),
            band_names=_RGB,
            levels=tuple(level for _, level in pairs),
            georef=Georef(pixel_size=_pixel_size(properties)),
            notes=(notes,) if self._bounds != whole else (),
            segment_bytes=tile,
        )

    def _opened(self) -> Any:
        """The handle that all threads share, as OpenSlide allows."""
        with self._lock:
            if self._slide is None:
                try:
                    self._slide = self._library.OpenSlide(self.path)
                except self._library.OpenSlideError as error:
                    raise self._refuse("OpenSlide can't open it", error) from error
            return self._slide

    def _rgba(self, window: Window, level: int) -> NDArray[np.uint8]:
        stored, slide = self._stored[level], self._opened()
        pixels = np.empty((*window.size, 4), np.uint8)
        for corner, part in _parts(window, stored):
            place = (
                self._bounds.col + round(corner.col * stored.factor),
                self._bounds.row + round(corner.row * stored.factor),
            )
            try:
                region = slide.read_region(place, stored.number, (corner.cols, corner.rows))
            except self._library.OpenSlideError as error:
                # After an error a handle refuses all that follows; the last reader closes it.
                self.close()
                raise self._refuse(f"{window} can't be read", error) from error
            rows, cols = part.relative_to(window).slices
            pixels[rows, cols] = np.asarray(region)[-part.rows :, -part.cols :]
        return pixels

    def _read(self, window: Window, level: int, bands: tuple[int, ...]) -> NDArray[Any]:
        return self._rgba(window, level)[..., list(bands)]

    def _mask(self, window: Window, level: int) -> NDArray[np.bool_] | None:
        return np.ascontiguousarray(self._rgba(window, level)[..., 3] > 0)

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path, *self._companions)

    def identity(self) -> dict[str, Any]:
        """That of every file of the slide, and which part of it is read."""
        bounds = self._bounds
        return {
            **super().identity(),
            "files": [file_identity(path, ends=2**12) for path in self._companions],
            "bounds": [bounds.row, bounds.col, bounds.rows, bounds.cols],
        }

    def close(self) -> None:
        """Let go of the handle; OpenSlide closes it when no thread reads from it any more."""
        with self._lock:
            self._slide = None

    def _refuse(self, what: str, error: Exception) -> InputError:
        reason = str(error).removeprefix(f"Reading {self.path}: ")
        return InputError("E-INPUT-READ", path=self.path, reason=f"{what}: {reason}")


def companions(path: Path, properties: Mapping[str, str]) -> tuple[Path, ...]:
    """The other files of a slide, sorted: a MIRAX slide's folder, the files that a Hamamatsu
    index names, the DICOM files of the same series."""
    vendor, beside = properties["openslide.vendor"], path.parent
    found: list[Path] = []
    if vendor == "mirax":
        found = list(path.with_suffix("").iterdir())
    elif vendor == "hamamatsu":
        named = {value for key, value in properties.items() if key.startswith("hamamatsu.")}
        found = [one for one in beside.iterdir() if one.name in named]
    elif vendor == "dicom":
        series = properties["dicom.SeriesInstanceUID"].encode()
        found = [one for one in beside.iterdir() if one.is_file() and _begins_with(one, series)]
    return tuple(sorted(one for one in found if one.is_file() and one != path))


def _begins_with(path: Path, series: bytes) -> bool:
    """Whether a DICOM file names a series. It does so before all that is large."""
    with path.open("rb") as file:
        head = file.read(2**16)
    return head[128:132] == b"DICM" and series in head


def _bounds(properties: Mapping[str, str], whole: Window) -> Window:
    """The part of level 0 that was scanned; the whole where the slide does not say."""
    try:
        col, row, cols, rows = (
            int(properties[f"openslide.bounds-{name}"]) for name in ("x", "y", "width", "height")
        )
    except KeyError:
        return whole
    stated = Window(row, col, rows, cols)
    return stated if stated.size.area and whole.contains(stated) else whole


def _levels(
    slide: Any, properties: Mapping[str, str], full: Size, seen: Size
) -> Iterator[tuple[_Stored, Level]]:
    """Levels of the part of size `seen` of a slide of size `full`, ever smaller."""
    last, areas = None, properties["openslide.vendor"] == "leica"
    pyramid = zip(slide.level_dimensions, slide.level_downsamples, strict=True)
    for number, ((cols, rows), factor) in enumerate(pyramid):
        # Sides are rounded: what is an integer says more than their ratio.
        exact = float(factor).is_integer()
        down, across = (factor, factor) if exact else (full.rows / rows, full.cols / cols)
        size = Size(rows, cols)
        if seen != full:
            size = Size(max(1, int(seen.rows / down)), max(1, int(seen.cols / across)))
        if last is None or size.area < last:
            yield _Stored(number, factor, number == 0 and not areas), Level(size, down, across)
            last = size.area


def _parts(window: Window, stored: _Stored) -> Iterator[tuple[Window, Window]]:
    """What to ask OpenSlide for, and the part of `window` at its lower right end."""
    if stored.on_pixels:
        yield window, window
        return
    for row in range(window.row // _CELL * _CELL, window.row_stop, _CELL):
        for col in range(window.col // _CELL * _CELL, window.col_stop, _CELL):
            part = Window(row, col, _CELL, _CELL).intersection(window)
            yield Window(row, col, part.row_stop - row, part.col_stop - col), part


def _tile_bytes(properties: Mapping[str, str]) -> int:
    """Of the largest tile, decoded; 0 where the slide does not say."""
    levels = [f"openslide.level[{k}]" for k in range(int(properties["openslide.level-count"]))]
    sides = ("tile-height", "tile-width")
    return max(
        4 * math.prod(int(properties.get(f"{level}.{side}", 0)) for side in sides)
        for level in levels
    )


def _check_giant(path: Path, files: tuple[Path, ...], pixels: int, tile: int) -> None:
    """Raise InputError E-INPUT-SPARSE for a giant whose files can't hold its tiles."""
    count = -(-pixels // tile)
    at_most = sum(file.stat().st_size for file in files) // _LEAST_TILE
    check_stored(path, pixels=pixels, stored=min(count, at_most), count=count, kind="tile")


def _pixel_size(properties: Mapping[str, str]) -> PixelSize | None:
    """What the vendor states; never from the power of the objective."""
    rows, cols = (float(properties.get(f"openslide.mpp-{axis}", 0)) for axis in "yx")
    return PixelSize(rows, cols, "um") if 0 < min(rows, cols) < float("inf") else None
