"""numpy arrays as sources, and how they are found again inside the process."""

from __future__ import annotations

import hashlib
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.choice import Choice
from tilseg.errors import InputError
from tilseg.georef import Georef
from tilseg.sources.base import BaseSource, level_of, supported_dtype
from tilseg.window import Size, Window

SCHEME = "array:"

_open: weakref.WeakSet[ArraySource] = weakref.WeakSet()


class ArraySource(BaseSource):
    """An array of (rows, cols) or (rows, cols, bands) as one level, not on a map.

    The array is not copied (but for dtypes that need converting) and must not be changed
    while the source is used. Its uri holds a hash of its pixels and can be reopened only in
    this process, while a source over equal pixels lives.

    Raises InputError E-INPUT-SHAPE, E-INPUT-DTYPE.
    """

    def __init__(self, array: NDArray[Any], choice: Choice = Choice()) -> None:  # noqa: B008 - frozen
        if array.ndim not in (2, 3) or array.size == 0:
            raise InputError("E-INPUT-SHAPE", shape=array.shape)
        dtype = supported_dtype(array.dtype, "array")
        self._pixels = np.atleast_3d(array).astype(dtype, copy=False)
        self._token = _token(self._pixels)
        size = Size(*self._pixels.shape[:2])
        super().__init__(
            uri=f"{SCHEME}{self._token}" + (f"#{choice}" if str(choice) else ""),
            reader="numpy",
            dtype=dtype,
            band_names=("",) * self._pixels.shape[2],
            levels=(level_of(size, size),),
            georef=choice.place("array", Georef()),
        )
        _open.add(self)

    def _read(self, window: Window, level: int, bands: tuple[int, ...]) -> NDArray[Any]:  # noqa: ARG002
        rows, cols = window.slices
        # Fancy indexing copies: a caller may write into what it read.
        return self._pixels[rows, cols][..., list(bands)]

    @property
    def files(self) -> tuple[Path, ...]:
        return ()

    def identity(self) -> dict[str, Any]:
        return {"array": _token(self._pixels)}

    def close(self) -> None:
        """Nothing is held but the array."""


def reopen(uri: str) -> ArraySource:
    """The source of an array of this process. Raises InputError E-INPUT-ARRAY elsewhere."""
    for source in list(_open):
        if source.uri == uri:
            return source
    raise InputError("E-INPUT-ARRAY", uri=uri)


def _token(pixels: NDArray[Any]) -> str:
    digest = hashlib.blake2b(f"{pixels.dtype.name} {pixels.shape}".encode(), digest_size=16)
    for row in range(0, len(pixels), 256):
        digest.update(np.ascontiguousarray(pixels[row : row + 256]).data)
    return digest.hexdigest()
