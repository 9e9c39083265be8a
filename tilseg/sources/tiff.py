"""TIFF, BigTIFF, OME-TIFF, ImageJ stacks, Aperio SVS and generic pyramids, through tifffile.

tifffile reads the metadata, imagecodecs decodes; windows are assembled by tiff_segments.
Samples marked as alpha are not bands: `mask` is False where alpha is 0, and where the file
stores no tile. Numbers are those stored: CMYK stays CMYK and white may be 0. An orientation
tag is applied. Smaller versions of the image are levels, whatever else the file holds is not.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from tilseg.choice import Choice
from tilseg.errors import InputError, TilsegError
from tilseg.georef import Georef
from tilseg.source import Source
from tilseg.sources import tiff_header as tags
from tilseg.sources.address import Stored
from tilseg.sources.axes import band_names, with_number
from tilseg.sources.base import FileSource, level_of, supported_dtype
from tilseg.sources.palette import palette_of
from tilseg.sources.tiff_checks import check_directory
from tilseg.sources.tiff_facts import channel_names, pixel_size
from tilseg.sources.tiff_header import Directory, read_directories
from tilseg.sources.tiff_layout import check_alone, choose_series, layouts
from tilseg.sources.tiff_segments import SegmentReader
from tilseg.sources.turned import Turn
from tilseg.window import Size, Window

_PALETTE, _YCBCR = 3, 6
_OLD_JPEG, _JPEGS = 6, (6, 7, 33007, 34892)
_LERC = 34887
_BYTE, _PLACES = 1, (tags.STRIP_OFFSETS, tags.TILE_OFFSETS)


def open_path(path: Path, choice: Choice) -> Source:
    """The image at `path`. Raises InputError, and UsageError for a choice it does not offer."""
    directories = read_directories(path)
    first = directories[0]
    check_directory(first)
    why = not_for_tifffile(first)
    if why:
        from tilseg.sources import geotiff

        return geotiff.open_plain(path, choice, first, why)
    return TiffSource(path, choice, first)


def not_for_tifffile(directory: Directory) -> str:
    """What only GDAL decodes or turns into RGB, "" for what tifffile does right."""
    compression = directory.number(tags.COMPRESSION, 1)
    if compression == _OLD_JPEG:
        return "old-style JPEG"
    if compression == _LERC:
        # May be packed once more, and unpacks to any size; GDAL knows when to stop.
        return "LERC"
    if directory.number(tags.PHOTOMETRIC, 1) == _YCBCR and compression not in (
        *_JPEGS, 33003, 33005, 34712, 50001, 50002,
    ):  # fmt: skip
        return "YCbCr without JPEG"
    if not directory.says_sizes:
        return "strips without their sizes"
    if any(directory.tags[tag].type == _BYTE for tag in _PLACES if tag in directory.tags):
        return "places of tiles in single bytes"
    try:
        known = compression == 1 or tifffile.TIFF.DECOMPRESSORS[compression]
    except KeyError:
        known = None
    return "" if known else f"compression {compression}"


class TiffSource(FileSource[Stored]):
    """One image of a TIFF, by `choice`, on this machine or at an address."""

    def __init__(self, path: Stored, choice: Choice, directory: Directory) -> None:
        with _in_words(path), tifffile.TiffFile(path, _multifile=False) as tif:
            # Counting the pages first is what ends on directories that point in a circle.
            len(tif.pages)
            check_alone(path, tif)
            series = choose_series(path, tif.series, choice)
            channels = channel_names(tif, series)
            choice = with_number(path, choice, channels)
            self._levels = layouts(path, series, choice)
            size = pixel_size(tif, series)
            names = band_names(channels, choice, len(self._levels[0].bands))
            dtype = supported_dtype(series.dtype, path)
            orientation = int(series.keyframe.tags.valueof(274) or 1)
            # A palette of ImageJ or OME is how to show the numbers, not what they stand for.
            used = not (tif.is_imagej or tif.is_ome) and series.keyframe.photometric == _PALETTE
        self._segments = SegmentReader(path)
        self._turn = Turn(orientation)
        notes = []
        if self._turn:
            # Smaller versions carry tags of their own, or none: only the full image is sure.
            self._levels = self._levels[:1]
            notes.append(f"turned as its orientation tag ({orientation}) says")
        self._palette = palette_of(path, choice, directory, used=used)
        if self._palette is not None:
            names, dtype = self._palette.names, self._palette.dtype
        georef, nodata = Georef(pixel_size=self._turn.pixel(size)), None
        if directory.tags.keys() & tags.GEO_TAGS:
            from tilseg.sources import geotiff

            placed, nodata = geotiff.place(directory)
            georef = placed if placed.crs or placed.transform else georef
        sizes = [self._turn.size(Size(one.rows, one.cols)) for one in self._levels]
        super().__init__(
            path,
            choice,
            reader=f"tifffile {tifffile.__version__}",
            dtype=dtype,
            band_names=names,
            levels=tuple(
                level_of(size, sizes[0], 0 if self._turn else layout.pages[0].strip)
                for layout, size in zip(self._levels, sizes, strict=True)
            ),
            georef=georef,
            nodata=nodata,
            notes=tuple(notes),
            segment_bytes=max(page.segment_bytes for one in self._levels for page in one.pages),
        )

    def _read(self, window: Window, level: int, bands: tuple[int, ...]) -> NDArray[Any]:
        layout = self._levels[level]
        if self._palette is None:
            return self._pixels(window, level, [layout.bands[band] for band in bands], self.dtype)
        index = self._pixels(window, level, layout.bands[:1], np.dtype(np.uint16))
        return self._palette.expand(index[..., 0], bands)

    def _pixels(
        self, window: Window, level: int, bands: Sequence[tuple[int, int]], dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """`bands`, pairs of page and sample, of a window as it is seen: (rows, cols, bands)."""
        stored = self._turn.stored(window, self.levels[level].size)
        pixels = np.empty((*stored.size, len(bands)), dtype)
        pages = self._levels[level].pages
        for number in sorted({page for page, _ in bands}):
            pairs = [(k, sample) for k, (page, sample) in enumerate(bands) if page == number]
            self._segments.read(pages[number], stored, pairs, pixels)
        return self._turn.apply(pixels)

    def _mask(self, window: Window, level: int) -> NDArray[np.bool_] | None:
        layout = self._levels[level]
        sparse = [page for page in layout.pages if page.is_sparse]
        if not sparse and layout.alpha is None:
            return None
        stored = self._turn.stored(window, self.levels[level].size)
        valid = np.ones(stored.size, np.bool_)
        for page in sparse:
            valid &= self._segments.stored(page, stored)
        seen = self._turn.apply(valid)
        if layout.alpha is not None:
            seen = seen & (self._pixels(window, level, [layout.alpha], self.dtype)[..., 0] > 0)
        return np.ascontiguousarray(seen)

    def close(self) -> None:
        self._segments.close()


@contextmanager
def _in_words(path: object) -> Iterator[None]:
    """tifffile's many exceptions, and its log where it tells of damage, as an InputError."""
    log = logging.getLogger("tifffile")
    heard = _Heard()
    log.addHandler(heard)
    try:
        yield
    except TilsegError:
        raise
    except Exception as error:
        raise InputError("E-INPUT-READ", path=path, reason=f"damaged TIFF: {error}") from error
    finally:
        log.removeHandler(heard)
    if heard.damage:
        raise InputError("E-INPUT-READ", path=path, reason=f"damaged TIFF: {heard.damage[0]}")


# Warnings that are none of damage: GDAL's nodata tag, which is not tifffile's to read here, and
# text in the encoding of some writer's country.
_HARMLESS = ("GDAL_NODATA", "coercing invalid ASCII")


class _Heard(logging.Handler):
    """tifffile's warnings in this thread, which all mean damage but the harmless ones."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self.damage: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        harmless = any(words in message for words in _HARMLESS)
        if record.thread == self._thread and not harmless:
            self.damage.append(message)
