"""What every reader shares: the checks before a read, and pickling by uri."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from tilseg.choice import Choice, make_uri
from tilseg.errors import InputError, UsageError
from tilseg.georef import Georef
from tilseg.source import Level, file_identity, reopen_source
from tilseg.sources.address import Stored
from tilseg.window import Size, Window

# What networks take as it is, and what becomes one of these without loss.
_DTYPES = {
    "uint8": np.uint8,
    "uint16": np.uint16,
    "int16": np.int16,
    "float32": np.float32,
    "bool": np.uint8,
    "int8": np.int16,
    "float16": np.float32,
}


def supported_dtype(dtype: np.dtype[Any] | str, path: object) -> np.dtype[Any]:
    """The dtype in which pixels of `dtype` are returned: uint8, uint16, int16 or float32.

    A name may be one that numpy does not know (GDAL's complex_int16). bool becomes uint8 (0 and 1), int8 int16 and float16 float32, all without loss.
    Raises InputError E-INPUT-DTYPE for every other.
    """
    known = _DTYPES.get(dtype if isinstance(dtype, str) else dtype.name)
    if known is None:
        raise InputError("E-INPUT-DTYPE", path=path, dtype=dtype, allowed=", ".join(_DTYPES))
    return np.dtype(known)


def representable(nodata: float | None, dtype: np.dtype[Any]) -> float | None:
    """`nodata`, or None where no pixel of `dtype` can have it (-9999 in uint8)."""
    if nodata is None or dtype.kind == "f":
        return nodata
    limits = np.iinfo(dtype)
    return nodata if nodata == int(nodata) and limits.min <= nodata <= limits.max else None


def level_of(size: Size, full: Size, strip: int = 0) -> Level:
    """The level of `size` in a pyramid over `full`, both covering the same ground."""
    return Level(size, full.rows / size.rows, full.cols / size.cols, strip)


class BaseSource(ABC):
    """Checks windows, levels and bands, so that a reader only sees what it has.

    A reader sets the attributes of `tilseg.source.Source` here, and writes `_read`, and
    `_mask` where it has one.
    """

    def __init__(
        self,
        *,
        uri: str,
        reader: str,
        dtype: np.dtype[Any],
        band_names: tuple[str, ...],
        levels: tuple[Level, ...],
        georef: Georef,
        nodata: float | None = None,
        notes: tuple[str, ...] = (),
        segment_bytes: int = 0,
        recorded: str | None = None,
    ) -> None:
        self.uri = uri
        self.reader = reader
        self.dtype = dtype
        self.band_names = band_names
        self.levels = levels
        self.georef = georef
        self.nodata = representable(nodata, dtype)
        self.notes = notes
        self.segment_bytes = segment_bytes
        self.recorded = recorded

    @property
    def shape(self) -> Size:
        return self.levels[0].size

    @property
    def bands(self) -> int:
        return len(self.band_names)

    def read(
        self, window: Window, level: int = 0, bands: Sequence[int] | None = None
    ) -> NDArray[Any]:
        self._check(window, level)
        chosen = tuple(range(self.bands)) if bands is None else tuple(bands)
        for band in chosen:
            if not 0 <= band < self.bands:
                raise InputError("E-INPUT-BAND", path=self.uri, band=band + 1, bands=self.bands)
        pixels = self._read(window, level, chosen)
        return np.ascontiguousarray(pixels, self.dtype)

    def mask(self, window: Window, level: int = 0) -> NDArray[np.bool_] | None:
        self._check(window, level)
        return self._mask(window, level)

    @abstractmethod
    def _read(self, window: Window, level: int, bands: tuple[int, ...]) -> NDArray[Any]:
        """(rows, cols, len(bands)), of any strides and any dtype that casts without loss."""

    def _mask(self, window: Window, level: int) -> NDArray[np.bool_] | None:  # noqa: ARG002
        return None

    @property
    @abstractmethod
    def files(self) -> tuple[Path, ...]: ...

    @abstractmethod
    def identity(self) -> dict[str, Any]: ...

    @abstractmethod
    def close(self) -> None: ...

    def _check(self, window: Window, level: int) -> None:
        if not 0 <= level < len(self.levels):
            sizes = ", ".join(f"{k} ({v.size.rows} x {v.size.cols})" for k, v in self._numbered())
            raise UsageError("E-LEVEL", level=level, path=self.uri, levels=sizes)
        size = self.levels[level].size
        if window.size.area == 0 or not Window.whole(size).contains(window):
            raise IndexError(f"{window} is empty or not inside level {level} of {size}")

    def _numbered(self) -> enumerate[Level]:
        return enumerate(self.levels)

    def __reduce__(self) -> tuple[Any, ...]:
        return reopen_source, (self.uri,)


_File = TypeVar("_File", bound=Stored)


class FileSource(BaseSource, Generic[_File]):
    """A source that is one file: `path`, and what was chosen of it."""

    def __init__(self, path: _File, choice: Choice, **facts: Any) -> None:
        georef = choice.place(path, facts.pop("georef"))
        super().__init__(uri=make_uri(path, choice), georef=georef, **facts)
        self.path = path
        self.choice = choice

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,) if isinstance(self.path, Path) else ()

    def identity(self) -> dict[str, Any]:
        path = self.path
        found = file_identity(path) if isinstance(path, Path) else path.identity()
        return {**found, "choice": str(self.choice)}
