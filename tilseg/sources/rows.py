"""An image that is stored in strips as wide as itself, read in whole rows that are kept for a while."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.source import Source
from tilseg.sources.derived import DerivedSource
from tilseg.window import Window

# Rows that are read at once, or a strip if that has more.
_ROWS = 128

_Piece = TypeVar("_Piece")


class WholeRows(DerivedSource):
    """`image`, of which one level and choice of bands is read block beside block.

    A window of few columns costs as much as whole rows there, so that reading every block by
    itself would decode each strip as many times as blocks lie beside each other. Here the rows
    are decoded once, and kept until as many others have been read.

    rows: those of a block's window. What else is read is read as from `image`, and so are
    windows of rows that can't be read whole: what is damaged is told of those that see it.
    """

    def __init__(self, image: Source, level: int, bands: tuple[int, ...], rows: int) -> None:
        super().__init__(image)
        self._level, self._bands = level, bands
        self._size = image.levels[level].size
        strip = max(1, image.levels[level].strip)
        self._step = -(-_ROWS // strip) * strip
        # One more for a window that begins inside one, and one for those of the blocks below.
        most = -(-rows // self._step) + 2
        self._pixels = _Kept(lambda place: image.read(place, level, bands), most)
        self._masks = _Kept(lambda place: image.mask(place, level), most)
        pixel = len(bands) * self.dtype.itemsize + 1
        self.kept_bytes = most * self._step * self._size.cols * pixel

    def _read(self, window: Window, level: int, bands: tuple[int, ...]) -> NDArray[Any]:
        if (level, bands) != (self._level, self._bands) or window.cols == self._size.cols:
            return self.image.read(window, level, bands)
        pixels = np.empty((*window.size, len(bands)), self.dtype)
        try:
            for place, part in self._places(window):
                pixels[part.relative_to(window).slices] = self._pixels.at(place)[
                    part.relative_to(place).slices
                ]
        except InputError:
            return self.image.read(window, level, bands)
        return pixels

    def _mask(self, window: Window, level: int) -> NDArray[np.bool_] | None:
        if level != self._level or window.cols == self._size.cols:
            return self.image.mask(window, level)
        valid = np.ones(window.size, np.bool_)
        for place, part in self._places(window):
            try:
                found = self._masks.at(place)
            except InputError:
                return self.image.mask(window, level)
            if found is None:
                return None
            valid[part.relative_to(window).slices] = found[part.relative_to(place).slices]
        return valid

    def _places(self, window: Window) -> Iterator[tuple[Window, Window]]:
        """Whole rows that are read at once, and what of them lies in `window`."""
        for row in range(window.row // self._step * self._step, window.row_stop, self._step):
            rows = min(self._step, self._size.rows - row)
            place = Window(row, 0, rows, self._size.cols)
            yield place, place.intersection(window)

    def close(self) -> None:
        self._pixels.clear()
        self._masks.clear()
        super().close()


class _Kept(Generic[_Piece]):
    """What `read` gives of the windows that were asked for last, at most `most` of them.

    Of threads that ask for one at the same time one reads, and the others wait for it.
    """

    def __init__(self, read: Callable[[Window], _Piece], most: int) -> None:
        self._read = read
        self._most = most
        self._lock = threading.Lock()
        self._pieces: OrderedDict[Window, Future[_Piece]] = OrderedDict()

    def at(self, place: Window) -> _Piece:
        with self._lock:
            piece = self._pieces.pop(place, None)
            mine = piece is None
            piece = self._pieces[place] = piece or Future()
            if len(self._pieces) > self._most:
                self._pieces.popitem(last=False)
        if mine:
            self._fill(place, piece)
        return piece.result()

    def _fill(self, place: Window, piece: Future[_Piece]) -> None:
        try:
            piece.set_result(self._read(place))
        except BaseException as error:
            with self._lock:
                if self._pieces.get(place) is piece:
                    del self._pieces[place]
            piece.set_exception(error)

    def clear(self) -> None:
        with self._lock:
            self._pieces.clear()
