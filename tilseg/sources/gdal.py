"""What GDAL shows of one dataset, through rasterio: shared by all readers that go this way.

Data bands are all but alpha. Where alpha is 0, or the internal mask is, `mask` is False.
Nodata is left to the caller. Overviews are levels; they and masks do not count as images.
"""

from __future__ import annotations

import threading
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.windows
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError

import tilseg.gdal_env  # noqa: F401
from tilseg.choice import Choice
from tilseg.errors import InputError
from tilseg.georef import Georef, map_pixel_size
from tilseg.source import Level
from tilseg.sources.base import FileSource, level_of, supported_dtype
from tilseg.sources.palette import Palette
from tilseg.window import Size, Window

# tilseg itself says whether a file is georeferenced.
warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)

_UNITS = {"metre": "m"}


class MissingCodec(Exception):
    """GDAL was built without the codec of this file."""


class GdalSource(FileSource[Path]):
    """One dataset, its overviews as levels."""

    def __init__(self, path: Path, choice: Choice, handles: Handles, segment_bytes: int) -> None:
        self._handles = handles
        with in_words(path), handles.use(0) as dataset:
            size, strip = Size(*dataset.shape), _strip(dataset)
            alpha = [k for k, c in enumerate(dataset.colorinterp, 1) if c is ColorInterp.alpha]
            self._alpha = alpha[0] if alpha and dataset.count > 1 else None
            data = [k for k in dataset.indexes if k != self._alpha]
            self._masked = self._alpha is None and MaskFlags.per_dataset in {
                flag for flags in dataset.mask_flag_enums for flag in flags
            }
            self._indexes = tuple(data)
            names = tuple(dataset.descriptions[k - 1] or "" for k in data)
            dtype = supported_dtype(dataset.dtypes[data[0] - 1], path)
            overviews = len(dataset.overviews(data[0]))
            georef, notes = georef_of(dataset)
            nodata = dataset.nodata
            recorded = recorded_in(dataset.tags())
            self._palette = self._choose_palette(path, choice, dataset)
        self._hidden: float | None = None
        if self._palette is not None:
            names, dtype = self._palette.names, self._palette.dtype
            # Among colours the number that marks missing pixels can't be found any more.
            self._hidden, nodata = nodata, None
        super().__init__(
            path,
            choice,
            reader=f"rasterio {rasterio.__version__} (GDAL {rasterio.__gdal_version__})",
            dtype=dtype,
            band_names=names,
            levels=(level_of(size, size, strip), *self._overviews(path, overviews, size)),
            georef=georef,
            nodata=nodata,
            notes=notes,
            segment_bytes=segment_bytes,
            recorded=recorded,
        )

    @abstractmethod
    def _choose_palette(self, path: Path, choice: Choice, dataset: Any) -> Palette | None:
        """The palette to expand, None to read numbers; raises as `palette_of` does."""

    def _check_pixels(self, window: Window, level: int) -> None:
        """What is known of the stored bytes of a window that GDAL does not look at."""

    @property
    def is_gdals(self) -> bool:
        """Whether GDAL found anything that another TIFF reader would not."""
        placed = self.georef.transform or self.georef.crs or self.notes
        return bool(placed) or self.nodata is not None or self._masked

    def _overviews(self, path: Path, count: int, full: Size) -> Iterator[Level]:
        for level in range(1, count + 1):
            with in_words(path), self._handles.use(level) as dataset:
                yield level_of(Size(*dataset.shape), full, _strip(dataset))

    def _read(self, window: Window, level: int, bands: tuple[int, ...]) -> NDArray[Any]:
        if self._palette is not None:
            index = self._read_indexes(window, level, self._indexes[:1])
            return self._palette.expand(index[..., 0], bands)
        return self._read_indexes(window, level, [self._indexes[band] for band in bands])

    def _read_indexes(self, window: Window, level: int, indexes: Any) -> NDArray[Any]:
        self._check_pixels(window, level)
        with in_words(self.path, window), self._handles.use(level) as dataset:
            pixels = np.empty((*window.size, len(indexes)), dataset.dtypes[0])
            dataset.read(list(indexes), window=_theirs(window), out=np.moveaxis(pixels, -1, 0))
        return pixels

    def _mask(self, window: Window, level: int) -> NDArray[np.bool_] | None:
        if self._alpha is not None:
            opaque: NDArray[np.bool_] = self._read_indexes(window, level, [self._alpha]) > 0
            return opaque[..., 0]
        if self._hidden is not None:
            index = self._read_indexes(window, level, self._indexes[:1])
            seen: NDArray[np.bool_] = index[..., 0] != self._hidden
            return seen
        if not self._masked:
            return None
        with in_words(self.path, window), self._handles.use(level) as dataset:
            found: NDArray[np.uint8] = dataset.read_masks(1, window=_theirs(window))
        return found > 0

    def close(self) -> None:
        self._handles.close()


class Handles:
    """Datasets of what GDAL's `driver` opens by `name`, by level, each lent to one thread at a time.

    A dataset is not thread-safe and opening one costs more than a read. One that failed is
    closed, not lent again: GDAL may remember the failure. path: for messages.
    """

    def __init__(self, path: Path, name: str, driver: str) -> None:
        self._path, self._name, self._driver = path, name, driver
        self._lock = threading.Lock()
        self._free: dict[int, list[Any]] = {}

    @contextmanager
    def use(self, level: int) -> Iterator[Any]:
        with self._lock:
            free = self._free.setdefault(level, [])
            dataset = free.pop() if free else None
        # In an Env, GDAL's warnings go to Python's log and not to the terminal.
        try:
            with rasterio.Env():
                if dataset is None:
                    dataset = self._open(level)
                yield dataset
        except BaseException:
            if dataset is not None:
                dataset.close()
            raise
        with self._lock:
            free.append(dataset)

    def _open(self, level: int) -> Any:
        options = {"overview_level": level - 1} if level else {}
        # The driver is named: GDAL would open whatever the bytes turn out to be.
        dataset = rasterio.open(self._name, driver=self._driver, sharing=False, **options)
        # Asked before anything else makes GDAL look for overviews, and before any other level:
        # these may name any file or address as the place of the overviews.
        if level == 0 and dataset.tags(ns="OVERVIEWS"):
            dataset.close()
            what = "another file or address for its overviews"
            raise InputError("E-INPUT-REFERS", path=self._path, what=what)
        return dataset

    def close(self) -> None:
        with self._lock:
            for dataset in (one for free in self._free.values() for one in free):
                dataset.close()
            self._free = {}


@contextmanager
def in_words(path: Path, window: Window | None = None) -> Iterator[None]:
    """rasterio's and GDAL's errors as an InputError that says where and why."""
    try:
        yield
    except (RasterioError, CPLE_BaseError, UnicodeDecodeError) as error:
        if "missing codec" in str(error):
            raise MissingCodec from None
        # "Read failed. See previous exception for details." is for programmers.
        cause = error.__cause__ or error.__context__ or error
        reason = str(cause).replace(str(path), "").replace(path.name, "").strip(" ,:'")
        place = f"{window} can't be read" if window else "GDAL can't open it"
        raise InputError("E-INPUT-READ", path=path, reason=f"{place}: {reason}") from error


def _strip(dataset: Any) -> int:
    """Rows of its strips, 0 where it is stored in tiles."""
    rows, cols = dataset.block_shapes[0]
    return int(rows) if cols >= dataset.width else 0


def _theirs(window: Window) -> Any:
    return rasterio.windows.Window(window.col, window.row, window.cols, window.rows)


def recorded_in(tags: Mapping[str, str]) -> str | None:
    """When an image was made: TIFF's DateTime, which names no zone and is taken for UTC.

    None where there is none, or a text that is no date.
    """
    try:
        found = datetime.strptime(tags.get("TIFFTAG_DATETIME", "").strip(), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    return f"{found.isoformat()}Z"


def georef_of(dataset: Any) -> tuple[Georef, tuple[str, ...]]:
    """Where a dataset lies, bit by bit as GDAL says, and what of it is not used."""
    crs, grid = dataset.crs, dataset.transform
    transform = None if grid.is_identity else tuple(grid)[:6]
    pixel_size = None
    unit = crs.units_factor[0] if crs else "unknown"
    if transform and unit != "unknown":
        pixel_size = map_pixel_size(grid, _UNITS.get(unit, unit))
    notes = []
    points = len(dataset.gcps[0])
    if points and transform is None:
        notes.append(f"its {points} ground control points are not applied: it has no grid")
    if dataset.rpcs and transform is None:
        notes.append("its rational polynomial coefficients are not applied: it has no grid")
    notes += [
        f"its numbers are taken as they are stored: scale {scale:g} and offset {offset:g} are not applied"
        for scale, offset in sorted({*zip(dataset.scales, dataset.offsets, strict=True)})
        if (scale, offset) != (1, 0)
    ]
    return Georef(crs.to_wkt() if crs else None, transform, pixel_size), tuple(notes)
