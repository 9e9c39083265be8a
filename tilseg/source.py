"""What an image is to tilseg, and the registry of what can be opened.

A new format is one file in `tilseg/sources/`, one line in `_READERS` and one contract test
class. Importing this module loads no image library.
"""

from __future__ import annotations

import importlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.georef import Georef
from tilseg.window import Size, Window


@dataclass(frozen=True, slots=True)
class Level:
    """One pyramid level: its size and how many level-0 pixels one of its pixels spans."""

    size: Size
    row_factor: float
    col_factor: float


@runtime_checkable
class Source(Protocol):
    """An image that is read by windows.

    Opening reads metadata only; `read` and `mask` are thread-safe; pickling means reopening
    by `uri`. A source only ever sees windows inside its level: mirroring is done for it.

    uri: what `open_source` reopens.
    reader: the library that decodes it, for the receipt.
    shape: size of level 0 in pixels.
    bands: number of bands; dtype: of a pixel value.
    georef: the place of level 0.
    levels: level 0 first, then ever coarser ones.
    nodata: the value that marks missing pixels (may be NaN), or None.
    band_names: one a band, "" where the file names none.
    """

    @property
    def uri(self) -> str: ...
    @property
    def reader(self) -> str: ...
    @property
    def shape(self) -> Size: ...
    @property
    def bands(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def georef(self) -> Georef: ...
    @property
    def levels(self) -> tuple[Level, ...]: ...
    @property
    def nodata(self) -> float | None: ...
    @property
    def band_names(self) -> tuple[str, ...]: ...

    def read(
        self, window: Window, level: int = 0, bands: Sequence[int] | None = None
    ) -> NDArray[Any]:
        """Pixels of `window` of `level`: (rows, cols, len(bands)), C order, own dtype.

        bands: 0-based, in the order wanted, repeats allowed; None for all.
        Raises InputError E-INPUT-READ or E-INPUT-TRUNCATED when they can't be decoded.
        """
        ...

    def mask(self, window: Window, level: int = 0) -> NDArray[np.bool_] | None:
        """Where alpha or an internal mask leaves pixels valid: (rows, cols), or None if all.

        `nodata` is not applied here: that is done once, for every source alike.
        """
        ...

    def identity(self) -> dict[str, Any]:
        """What must not change between the start of a run and its end, as plain JSON."""
        ...

    def close(self) -> None: ...


# name -> (module, function that says from path and first bytes whether to try it). The order
# is the order of asking; the module is imported only when its turn comes, and its `open_path`
# may return None: not mine, ask the next.
_READERS: dict[str, tuple[str, Callable[[Path, bytes], bool]]] = {}


def register_source(name: str, module: str, claims: Callable[[Path, bytes], bool]) -> None:
    """Add a reader: `module` has `open_path(path) -> Source | None`.

    `claims` says from the path and the first 512 bytes whether to import and ask it.
    """
    _READERS[name] = (module, claims)


def registered_sources() -> tuple[str, ...]:
    """Names of all readers, in the order they are asked."""
    return tuple(_READERS)


def _is_tiff(head: bytes) -> bool:
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


register_source("geotiff", "tilseg.sources.geotiff", lambda _path, head: _is_tiff(head))
register_source("tiff", "tilseg.sources.tiff", lambda _path, head: _is_tiff(head))

_EXPECTED = "a TIFF (GeoTIFF, BigTIFF, OME-TIFF, SVS)"


def open_source(image: str | os.PathLike[str] | NDArray[Any]) -> Source:
    """Open an image by path, or wrap a numpy array of (rows, cols) or (rows, cols, bands).

    Raises InputError (exit 4): E-INPUT-MISSING, -DIRECTORY, -NOT-FILE, -EMPTY, -FORMAT,
    -TRUNCATED, -DTYPE.
    """
    from tilseg.sources import array

    if isinstance(image, np.ndarray):
        return array.ArraySource(image)
    if isinstance(image, str) and image.startswith(array.SCHEME):
        return array.reopen(image)
    path = Path(image)
    head = _first_bytes(path)
    for module, claims in _READERS.values():
        if claims(path, head):
            source: Source | None = importlib.import_module(module).open_path(path)
            if source is not None:
                return source
    raise InputError("E-INPUT-FORMAT", path=path, reason=describe(head), expected=_EXPECTED)


def _first_bytes(path: Path, count: int = 512) -> bytes:
    # stat before open: opening a FIFO would wait for ever.
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        raise InputError("E-INPUT-MISSING", path=path) from None
    if stat.S_ISDIR(mode):
        raise InputError("E-INPUT-DIRECTORY", path=path)
    if not stat.S_ISREG(mode):
        raise InputError("E-INPUT-NOT-FILE", path=path)
    try:
        with path.open("rb") as file:
            head = file.read(count)
    except OSError as error:
        raise InputError("E-INPUT-READ", path=path, reason=error.strerror) from None
    if not head:
        raise InputError("E-INPUT-EMPTY", path=path)
    return head


def describe(head: bytes) -> str:
    """What a file that is no image tilseg reads seems to be, from its first bytes."""
    start = head.lstrip()[:64].lower()
    if start.startswith(b"version https://git-lfs"):
        return "is a git-lfs pointer (run: git lfs pull)"
    if start.startswith((b"<!doctype", b"<html")):
        return "is a web page"
    if start.startswith(b"<"):
        return "is XML"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return f"is {kind}"
    if all(byte in b"\t\n\r\f" or byte >= 32 for byte in head[:64]):
        return "is text"
    return f"starts with the unknown bytes {head[:4].hex(' ')}"


_MAGIC = {
    b"\x89PNG": "a PNG",
    b"\xff\xd8\xff": "a JPEG",
    b"GIF8": "a GIF",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "gzip data",
    b"\x89HDF": "HDF5",
}


def file_identity(path: Path) -> dict[str, Any]:
    """Identity of one file: resolved path, size, time of change and a hash of both its ends."""
    import hashlib

    status = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(2**20))
        file.seek(max(0, status.st_size - 2**20))
        digest.update(file.read(2**20))
    return {
        "path": str(path.resolve()),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "sha256_ends": digest.hexdigest(),
    }
