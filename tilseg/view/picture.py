"""The image as a page sees it: colours of any tile, from the level of its pyramid that fits."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError, TilsegError
from tilseg.georef import Factors
from tilseg.look import GROUND, choose_look
from tilseg.nodata import valid_pixels
from tilseg.source import Source
from tilseg.sources.resampled import ResampledSource
from tilseg.view.grid import ViewGrid
from tilseg.window import Size, Window

# Pixels of the image that one pixel of a tile may be made from, each way: 2048 a tile.
_COARSEST = 8
# Pixels a side of the copy that is made of an image without levels coarse enough.
_COPY = 4096
_STRIP = 64
_SAME = 0.02


class Picture:
    """Colours of `image`, whose `bands` a model has used.

    An image without the coarse levels that a far view needs is read once, in a thread, into a copy
    of at most 4096 pixels a side; it appears from the top as that is done.

    damage: why something could not be read, the last time that happened; "" if it never did.
    """

    def __init__(self, image: Source, bands: Sequence[int]) -> None:
        self.grid = ViewGrid(image.shape)
        self.damage = ""
        self._image = image
        self._look = choose_look(image, bands)
        coarsest = max(level.row_factor for level in image.levels)
        self._fine = coarsest * _COARSEST
        self._copy: NDArray[np.uint8] | None = None
        self._copied = 0
        self._closed = threading.Event()
        if 2 ** (self.grid.zooms - 1) > self._fine:
            self._zoom = next(
                zoom for zoom in range(self.grid.zooms) if max(self.grid.size(zoom)) <= _COPY
            )
            self._copy = np.full((*self.grid.size(self._zoom), 3), GROUND, np.uint8)
            self._thread = threading.Thread(target=self._fill, daemon=True)
            self._thread.start()

    @property
    def progress(self) -> float:
        """Which part of the copy is there; 1 where none is needed."""
        return 1.0 if self._copy is None else self._copied / len(self._copy)

    def close(self) -> None:
        """End reading; the image is its owner's to close."""
        self._closed.set()
        if self._copy is not None:
            self._thread.join()

    def tile(self, zoom: int, window: Window) -> NDArray[np.uint8]:
        """Colours of a window of a zoom: (rows, cols, 3)."""
        if self._copy is not None and 2**zoom > self._fine:
            rows, cols = (
                np.minimum(
                    (np.arange(start, stop) * 2 + 1) * 2**zoom // 2 // 2**self._zoom, side - 1
                )
                for start, stop, side in (
                    (window.row, window.row_stop, self._copy.shape[0]),
                    (window.col, window.col_stop, self._copy.shape[1]),
                )
            )
            return self._copy[np.ix_(rows, cols)]
        return self._cut(zoom, window)

    def _cut(self, zoom: int, window: Window) -> NDArray[np.uint8]:
        source, level = self._at(zoom)
        inside = window.intersection(Window.whole(source.levels[level].size))
        colors = np.full((*window.size, 3), GROUND, np.uint8)
        if not inside.size.area:
            return colors
        try:
            pixels = source.read(inside, level, self._look.bands)
            valid = valid_pixels(pixels, source.nodata, source.mask(inside, level))
        except (InputError, OSError) as error:
            self.damage = error.problem if isinstance(error, TilsegError) else str(error)
            return colors
        painted = self._look.paint(pixels, valid)
        # A level that was rounded down ends before the image does.
        missing = [(0, whole - part) for whole, part in zip(window.size, inside.size, strict=True)]
        return np.pad(painted, (*missing, (0, 0)), mode="edge")

    @functools.cache  # noqa: B019 - as long as this picture
    def _at(self, zoom: int) -> tuple[Source, int]:
        """What to read for a zoom, and the level of it."""
        factor = 2**zoom
        for number, level in enumerate(self._image.levels):
            own = np.array([level.row_factor, level.col_factor])
            if (abs(own / factor - 1) < _SAME).all():
                return self._image, number
        return ResampledSource(self._image, Factors(factor, factor)), 0

    def _fill(self) -> None:
        assert self._copy is not None
        size = Size(*self._copy.shape[:2])
        for row in range(0, size.rows, _STRIP):
            if self._closed.is_set():
                return
            strip = Window(row, 0, _STRIP, size.cols).intersection(Window.whole(size))
            self._copy[strip.slices] = self._cut(self._zoom, strip)
            self._copied = strip.row_stop
