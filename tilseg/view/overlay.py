"""The mask as a page sees it: values of any tile, from stored levels or from blocks just done."""

from __future__ import annotations

import threading
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import DamageError, InputError
from tilseg.georef import Factors
from tilseg.nodata import NODATA
from tilseg.resample import nearest
from tilseg.sinks.zarr import MaskStore
from tilseg.source import Level, Source
from tilseg.view.grid import ViewGrid
from tilseg.window import Size, Window

# Pixels of a level for one of a tile, each way, that are read at most: 4096 a tile.
_COARSEST = 16
# Pixels a side of the copy of a mask that has no levels yet.
_COPY = 4096
_LOOK_SECONDS = 1.0


class Values(Protocol):
    """Something of one whole number a pixel, in levels."""

    @property
    def levels(self) -> tuple[Level, ...]: ...

    def read(self, window: Window, level: int = 0) -> NDArray[Any]:
        """(rows, cols) of a window inside a level."""
        ...


class OneBand:
    """The only band of a source, as `Values`."""

    def __init__(self, source: Source) -> None:
        self.levels = source.levels
        self._source = source

    def read(self, window: Window, level: int = 0) -> NDArray[Any]:
        return self._source.read(window, level)[..., 0]


class Overlay:
    """`values` on the grid of an image: each pixel is the one that its centre lies in.

    factors: pixels of the image that one of level 0 of the values spans.
    damage: why something could not be read, the last time that happened; "" if it never did.
    """

    def __init__(self, values: Values, grid: ViewGrid, factors: Factors) -> None:
        self.grid = grid
        self.damage = ""
        self._values = values
        self._factors = factors

    def tile(self, zoom: int, window: Window) -> NDArray[Any]:
        """The values under a window of a zoom: (rows, cols); nodata where they can't be read."""
        level, factors = self._level(zoom)
        size = self._values.levels[level].size
        rows = nearest(window.row, window.row_stop, size.rows, factors.rows)
        cols = nearest(window.col, window.col_stop, size.cols, factors.cols)
        top, left = int(rows[0]), int(cols[0])
        inside = Window(top, left, int(rows[-1]) + 1 - top, int(cols[-1]) + 1 - left)
        try:
            found = self._values.read(inside, level)
        except (DamageError, InputError) as error:
            self.damage = error.problem
            return np.full(window.size, NODATA, np.uint8)
        return found[np.ix_(rows - top, cols - left)]

    def borders(self, zoom: int, window: Window) -> NDArray[np.bool_]:
        """Where a window of a zoom has another value within two pixels up, down or across."""
        wide = Window(window.row - 2, window.col - 2, window.rows + 4, window.cols + 4)
        inside = wide.intersection(Window.whole(self.grid.size(zoom)))
        values = self.tile(zoom, inside)
        border = np.zeros(values.shape, np.bool_)
        for axis in (0, 1):
            one, other = values.swapaxes(0, axis), border.swapaxes(0, axis)
            for step in (1, 2):
                change = one[step:] != one[:-step]
                other[step:] |= change
                other[:-step] |= change
        return border[window.relative_to(inside).slices]

    def _level(self, zoom: int) -> tuple[int, Factors]:
        """The level to read, and how many pixels of the zoom one of it spans."""
        spans = [
            Factors(
                self._factors.rows * level.row_factor / 2**zoom,
                self._factors.cols * level.col_factor / 2**zoom,
            )
            for level in self._values.levels
        ]
        level = max((n for n, span in enumerate(spans) if max(span) < 1.01), default=0)
        if min(spans[level]) < 1 / _COARSEST and level + 1 < len(spans):
            level += 1
        return level, spans[level]


class Growing:
    """A mask whose blocks are still computed, as `Values`: its own pixels, and a copy of at most
    4096 pixels a side for the views from afar, into which a thread puts every block it finds."""

    def __init__(self, store: MaskStore) -> None:
        self._store = store
        self._seen: set[tuple[int, int]] = set()
        self._step = _COARSEST
        while max(store.shape) > _COPY * self._step:
            self._step *= 2
        shape = Size(*(-(-side // self._step) for side in store.shape))
        self._copy = np.full(shape, store.nodata, store.dtype)
        step = float(self._step)
        self.levels = (Level(store.shape, 1.0, 1.0), Level(shape, step, step))
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    @property
    def done(self) -> int:
        """How many blocks have been found."""
        return len(self._seen)

    def read(self, window: Window, level: int = 0) -> NDArray[Any]:
        return self._store.read(window) if level == 0 else self._copy[window.slices]

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def look(self) -> None:
        """Take the blocks that are new."""
        with self._lock:
            for place in sorted(self._stored() - self._seen):
                if self._closed.is_set():
                    return
                self._take(*place)

    def _watch(self) -> None:
        while not self._closed.is_set():
            self.look()
            self._closed.wait(_LOOK_SECONDS)

    def _stored(self) -> set[tuple[int, int]]:
        """Rows and columns of the blocks that are there; each came by one rename."""
        shards = (self._store.path / "0" / "c").glob("[0-9]*/[0-9]*")
        return {(int(path.parent.name), int(path.name)) for path in shards}

    def _take(self, row: int, col: int) -> None:
        block, step = self._store.block, self._step
        corner = Window(row * block.rows, col * block.cols, *block)
        window = corner.intersection(Window.whole(self._store.shape))
        try:
            labels = self._store.read(window)
        except DamageError:
            # The run, when it goes on, computes it again, or has moved it to its place.
            return
        top, left = -(-window.row // step), -(-window.col // step)
        part = labels[top * step - window.row :: step, left * step - window.col :: step]
        self._copy[top : top + part.shape[0], left : left + part.shape[1]] = part
        self._seen.add((row, col))
