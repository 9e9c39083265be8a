"""Windows of a TIFF page, from as few of its strips or tiles as they touch.

Nothing here knows tifffile: a page brings the places of its segments and a function that
decodes one. Memory is bounded by the window, one segment a thread, and a cache of fixed size.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.sources.address import Address, Stored
from tilseg.sources.tiff_header import Segments
from tilseg.window import Window

CACHE_BYTES = 2**26


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """One image directory, ready to be read by windows.

    offsets, counts: (segments.count,) uint64, places and stored bytes; 0 bytes: not stored.
    samples: interleaved in a segment; 1 where each is a plane of its own.
    decode: bytes and index of a segment -> (rows, cols, samples), which may end early at the
        edge of the image, or None for uncompressed strips, whose rows are read directly.
    dtype: of stored pixels, with their byte order; of decoded ones, native.
    """

    segments: Segments
    rows: int
    cols: int
    samples: int
    offsets: NDArray[np.uint64]
    counts: NDArray[np.uint64]
    decode: Callable[[bytes, int], NDArray[Any]] | None
    dtype: np.dtype[Any]

    def segment(self, plane: int, row: int, col: int) -> tuple[int, Window]:
        """Number of the segment at grid place (row, col), and the pixels it owns."""
        down, across = self.segments.grid
        rows, cols = self.segments.rows, self.segments.cols
        own = Window(row * rows, col * cols, rows, cols)
        index = (plane * down + row) * across + col
        return index, own.intersection(Window(0, 0, self.rows, self.cols))

    def touched(self, window: Window, plane: int) -> Iterator[tuple[int, Window]]:
        """The segments of a plane that share pixels with `window`."""
        rows, cols = self.segments.rows, self.segments.cols
        for row in range(window.row // rows, (window.row_stop - 1) // rows + 1):
            for col in range(window.col // cols, (window.col_stop - 1) // cols + 1):
                yield self.segment(plane, row, col)

    @property
    def segment_bytes(self) -> int:
        """Memory that decoding one segment takes; 0 for rows that are read directly."""
        samples = 0 if self.decode is None else self.samples
        return self.segments.rows * self.segments.cols * samples * self.dtype.itemsize

    @property
    def strip(self) -> int:
        """Rows of its strips; 0 where it is stored in tiles, or in rows that are read directly."""
        whole = self.decode is not None and self.segments.cols >= self.cols
        return self.segments.rows if whole else 0

    @property
    def is_sparse(self) -> bool:
        """Whether some segments are not stored."""
        return bool((self.counts == 0).any())


class SegmentReader:
    """Reads pages of one file; thread-safe."""

    def __init__(self, path: Stored, cache_bytes: int = CACHE_BYTES) -> None:
        self.path = path
        self._file = _File(path)
        self._cache = _Cache(cache_bytes)

    def read(
        self, page: Page, window: Window, pairs: Sequence[tuple[int, int]], out: NDArray[Any]
    ) -> None:
        """Fill band k of `out` (rows, cols, bands) with sample s for every pair (k, s).

        Pixels that are not stored become 0. Raises InputError E-INPUT-READ or
        E-INPUT-TRUNCATED, naming the strip or tile.
        """
        apart = page.segments.planes > 1
        for plane in sorted({sample for _, sample in pairs}) if apart else [0]:
            mine = [(k, s) for k, s in pairs if not apart or s == plane]
            into = _as_slice([k for k, _ in mine])
            # In a plane of its own a sample is number 0.
            wanted = _as_slice([0 if apart else s for _, s in mine])
            for index, own in page.touched(window, plane):
                part = own.intersection(window)
                rows, cols = part.relative_to(window).slices
                out[rows, cols, into] = self._part(page, index, own, part, wanted)

    def _part(self, page: Page, index: int, own: Window, part: Window, samples: Any) -> Any:
        """Pixels `part` of segment `index`, which owns the pixels `own`."""
        if page.counts[index] == 0:
            return 0
        if page.decode is None:
            return self._rows(page, index, own, part)[..., samples]
        pixels = self._decoded(page, index, own)
        rows, cols = part.relative_to(own).slices
        return pixels[rows, cols, samples]

    def _decoded(self, page: Page, index: int, own: Window) -> NDArray[Any]:
        key = (id(page), index)
        pixels = self._cache.get(key)
        if pixels is None:
            assert page.decode is not None
            stored = self._bytes(page, index, 0, int(page.counts[index]))
            try:
                pixels = page.decode(stored, index)
            except Exception as error:
                reason = f"{_name(page, index, own)} can't be decoded: {error}"
                raise InputError("E-INPUT-READ", path=self.path, reason=reason) from error
            if pixels.shape[0] < own.rows or pixels.shape[1] < own.cols:
                reason = f"{_name(page, index, own)} decodes to {pixels.shape[:2]} pixels only"
                raise InputError("E-INPUT-READ", path=self.path, reason=reason)
            self._cache.put(key, pixels)
        return pixels

    def _rows(self, page: Page, index: int, own: Window, part: Window) -> NDArray[Any]:
        """Rows of an uncompressed strip, straight from the file."""
        pixel = page.samples * page.dtype.itemsize
        row = page.cols * pixel
        skip = (part.row - own.row) * row
        if 3 * part.cols >= page.cols:
            stored = self._bytes(page, index, skip, part.rows * row)
            whole = np.frombuffer(stored, page.dtype).reshape(part.rows, page.cols, -1)
            return whole[:, part.col : part.col_stop]
        pixels = np.empty((part.rows, part.cols, page.samples), page.dtype)
        for k in range(part.rows):
            place = skip + k * row + part.col * pixel
            stored = self._bytes(page, index, place, part.cols * pixel)
            pixels[k] = np.frombuffer(stored, page.dtype).reshape(part.cols, page.samples)
        return pixels

    def _bytes(self, page: Page, index: int, skip: int, count: int) -> bytes:
        stored = self._file.read(int(page.offsets[index]) + skip, count)
        if len(stored) < count:
            reason = f"{page.segments.kind} {index} is no longer whole in the file"
            raise InputError("E-INPUT-TRUNCATED", path=self.path, reason=reason)
        return stored

    def stored(self, page: Page, window: Window) -> NDArray[np.bool_]:
        """Which pixels of `window` the file holds: (rows, cols)."""
        found = np.ones(window.size, np.bool_)
        for plane in range(page.segments.planes):
            for index, own in page.touched(window, plane):
                if page.counts[index] == 0:
                    found[own.intersection(window).relative_to(window).slices] = False
        return found

    def close(self) -> None:
        """Close the file and forget decoded segments; a later read opens it again."""
        self._file.close()
        self._cache.clear()


def _name(page: Page, index: int, own: Window) -> str:
    return f"{page.segments.kind} {index} ({own})"


def _as_slice(numbers: Sequence[int]) -> Any:
    """The same selection as a slice where there is one: numpy copies it much faster."""
    first, step = numbers[0], len(numbers)
    return (
        slice(first, first + step)
        if list(numbers) == list(range(first, first + step))
        else [*numbers]
    )


class _File:
    """Reads of one file at any place from any thread, the file opened at the first."""

    def __init__(self, path: Stored) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._file: Any = None

    def read(self, place: int, count: int) -> bytes:
        if isinstance(self._path, Address):
            return self._path.read(place, count)
        with self._lock:
            if self._file is None:
                try:
                    self._file = self._path.open("rb", buffering=0)
                except FileNotFoundError:
                    raise InputError("E-INPUT-MISSING", path=self._path) from None
            file = self._file
            if not hasattr(os, "pread"):  # Windows
                file.seek(place)
                return bytes(file.read(count))
        return os.pread(file.fileno(), count, place)

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = None


class _Cache:
    """The segments used last, up to a number of bytes, but always the very last one."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[int, int]) -> NDArray[Any] | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: tuple[int, int], pixels: NDArray[Any]) -> None:
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = pixels
            self._bytes += pixels.nbytes
            while self._bytes > self._limit and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0
