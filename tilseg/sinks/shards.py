"""A zarr v3 array that is committed block by block, one shard file a block.

After the Zarr v3 specification and its sharding codec (ZEP 2): a shard is one file that holds
the inner chunks of one block and an index. Reading goes through zarr; writing does not. zarr
before 3.2 reads the old shard even when all of it is replaced, so that a torn shard would fail
every retry (zarr-python #3793), and no version may write one shard from two tasks. Here a
shard is encoded apart, in memory, and put in place by one `os.replace`.
"""

from __future__ import annotations

import math
import os
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import ZstdCodec
from zarr.storage import MemoryStore

from tilseg.durable import writing
from tilseg.errors import DamageError, ExistsError, InputError
from tilseg.sink import windows_of
from tilseg.window import Size, Window

_CHUNK = 512  # pixels: what viewers fetch at once


class BlockArray:
    """An array of (rows, cols), or (bands, rows, cols), whose shards are its blocks.

    Every block has one owner. `commit` may be called from any thread or process, and again
    for a block that is there: the same pixels give the same bytes.

    path: directory of the array. shape: size of the image. block: size of a whole block.
    bands: length of the leading axis, or None where there is none. dtype: of a pixel.
    nodata: value of what was never committed, the largest of the dtype.
    """

    def __init__(self, path: Path, array: zarr.Array[Any]) -> None:
        self.path = path
        self._array = array
        if array.shards is None:
            raise InputError(
                "E-INPUT-FORMAT", path=path, reason="is not sharded", expected="a tilseg mask"
            )
        *lead, rows, cols = array.shape
        self.shape = Size(rows, cols)
        self.bands: int | None = lead[0] if lead else None
        self.block = Size(*array.shards[-2:])
        self.dtype = np.dtype(array.dtype)
        self.nodata = int(np.iinfo(self.dtype).max)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        shape: Size,
        block: Size,
        *,
        dtype: DTypeLike = np.uint8,
        bands: int | None = None,
    ) -> BlockArray:
        """The array at `path`, made where it is not there; its blocks read as nodata.

        Raises ExistsError E-EXISTS where there is one of another shape, block or dtype,
        OutputError E-OUTPUT-WRITE where it can't be written.
        """
        path = Path(path)
        if (path / "zarr.json").exists():
            return cls._same(path, shape, block, np.dtype(dtype), bands)
        lead = () if bands is None else (bands,)
        encoded: dict[str, Any] = {}
        _new_array(encoded, (*lead, *shape), (*lead, *block), np.dtype(dtype))
        replace_bytes(path / "zarr.json", encoded["zarr.json"].to_bytes())
        return cls.open(path)

    @classmethod
    def _same(
        cls, path: Path, shape: Size, block: Size, dtype: np.dtype[Any], bands: int | None
    ) -> BlockArray:
        found = cls.open(path)
        wanted = {"shape": shape, "block": block, "dtype": dtype, "bands": bands}
        other = [name for name, value in wanted.items() if getattr(found, name) != value]
        if other:
            raise ExistsError("E-EXISTS", path=path, fields=", ".join(other))
        return found

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> BlockArray:
        """The array at `path`, from its metadata alone.

        Raises InputError E-INPUT-MISSING or E-INPUT-FORMAT for anything that is not one.
        """
        path = Path(path)
        if not (path / "zarr.json").is_file():
            raise InputError("E-INPUT-MISSING", path=path)
        try:
            array = zarr.open_array(path, mode="r", zarr_format=3)
        except Exception as error:  # zarr and json raise many kinds for a damaged file
            raise InputError(
                "E-INPUT-FORMAT",
                path=path,
                reason=f"has bad metadata ({error})",
                expected="a tilseg mask",
            ) from error
        return cls(path, array)

    def commit(self, window: Window, pixels: NDArray[Any], attempt: str = "") -> int:
        """Store one block; returns the CRC-32 of its pixels' bytes in C order.

        window: a whole block, clipped to the image. pixels: (rows, cols), or
        (bands, rows, cols), of the array's dtype. attempt: goes into the name of the private
        file, so that a stray one tells whose it was.

        A reader sees the old block or the new one, never a part. Nothing is fsynced: a resume
        compares CRCs, and what is published is synced then.

        Raises OutputError E-OUTPUT-WRITE where the disk does not take it (no stray file is
        left), ValueError for a window that is not a block or pixels that do not fit it.
        """
        target = self._target(window)
        lead = () if self.bands is None else (self.bands,)
        if pixels.shape != (*lead, *window.size) or pixels.dtype != self.dtype:
            raise ValueError(f"{pixels.dtype} {pixels.shape} does not fit the block at {window}")
        pixels = np.ascontiguousarray(pixels)
        replace_bytes(target, self._encode(pixels), attempt)
        return zlib.crc32(pixels.data)

    def read(self, window: Window) -> NDArray[Any]:
        """Pixels of any window inside the image: (rows, cols) or (bands, rows, cols), C order.

        A block that was never committed reads as nodata. Raises DamageError E-DAMAGE-BLOCK
        (exit 12) where a stored one can't be read or fails a checksum, ValueError for a window
        that is not inside the image.
        """
        if not Window.whole(self.shape).contains(window):
            raise ValueError(f"{window} is not inside {self.shape}")
        try:
            self._refuse_empty_files(window)
            pixels = np.asarray(self._array[(..., *window.slices)])
        except Exception as error:  # each codec has its own kinds; any means it can't be read
            raise DamageError(
                "E-DAMAGE-BLOCK", path=self.path, window=window, reason=error
            ) from error
        return pixels

    def _refuse_empty_files(self, window: Window) -> None:
        # zarr reads a file of 0 bytes, which is what a power cut leaves, as never committed.
        for row in range(window.row // self.block.rows, -(-window.row_stop // self.block.rows)):
            for col in range(window.col // self.block.cols, -(-window.col_stop // self.block.cols)):
                shard = self._shard(row, col)
                if shard.is_file() and shard.stat().st_size == 0:
                    raise OSError(f"{shard} has 0 bytes")

    def block_crc(self, window: Window) -> int:
        """What `commit` returned for the pixels now stored; raises as `read` does."""
        return zlib.crc32(np.ascontiguousarray(self.read(window)).data)

    def windows(self) -> Iterator[Window]:
        """The blocks in raster order, clipped to the image."""
        return windows_of(self.shape, self.block)

    def _target(self, window: Window) -> Path:
        """The shard file of a block; ValueError for a window that is not one."""
        row, col = window.row // self.block.rows, window.col // self.block.cols
        corner = Window(row * self.block.rows, col * self.block.cols, *self.block)
        if min(window.size) < 1 or window != corner.intersection(Window.whole(self.shape)):
            raise ValueError(f"{window} is not a block of {self.block} in {self.shape}")
        return self._shard(row, col)

    def _shard(self, row: int, col: int) -> Path:
        lead = () if self.bands is None else (0,)
        return self.path.joinpath("c", *map(str, (*lead, row, col)))

    def _encode(self, pixels: NDArray[Any]) -> bytes:
        """The shard file of a block: what zarr would write, from an array of that one shard."""
        shard: tuple[int, ...] = (*pixels.shape[:-2], *self.block)
        encoded: dict[str, Any] = {}
        array = _new_array(encoded, shard, shard, self.dtype)
        if pixels.shape != shard:
            clipped, pixels = pixels, np.full(shard, self.nodata, self.dtype)
            pixels[..., : clipped.shape[-2], : clipped.shape[-1]] = clipped
        array[...] = pixels
        (key,) = (key for key in encoded if key != "zarr.json")
        content: bytes = encoded[key].to_bytes()
        return content


def _new_array(
    store: dict[str, Any], shape: tuple[int, ...], shard: tuple[int, ...], dtype: np.dtype[Any]
) -> zarr.Array[Any]:
    """A new array in `store`, with the one set of codecs that all our arrays have."""
    lead = (1,) * (len(shape) - 2)
    return zarr.create_array(
        MemoryStore(store),
        shape=shape,
        shards=shard,
        chunks=(*lead, *(chunk_side(side) for side in shard[-2:])),
        dtype=dtype,
        fill_value=int(np.iinfo(dtype).max),
        # Without its checksum zstd lets 27 of 200 flipped bits pass unseen.
        compressors=ZstdCodec(level=3, checksum=True),
        dimension_names=("c", "y", "x")[-len(shape) :],
        # A block of nothing but nodata is stored too: no file would mean never committed.
        config={"write_empty_chunks": True},
    )


def chunk_side(block: int) -> int:
    """The divisor of `block` nearest to 512, by ratio."""
    divisors = [side for side in range(1, block + 1) if block % side == 0]
    return min(divisors, key=lambda side: (abs(math.log(side / _CHUNK)), side))


def replace_bytes(target: Path, content: bytes, attempt: str = "") -> None:
    """Put a file in place in one step, from a private one beside it.

    Raises OutputError E-OUTPUT-WRITE; the private file is gone then too.
    """
    private = target.with_name(f".{target.name}.{attempt}{uuid.uuid4().hex}.partial")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            private.write_bytes(content)
            os.replace(private, target)
        finally:
            private.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove the private files of all attempts, anywhere in `folder`.

    One of a dead process stays for ever; one of a living process, which computes a block a second
    time, has nothing to add. Raises OutputError E-OUTPUT-WRITE.
    """
    with writing(folder):
        for stray in list(folder.rglob(".*.partial")):
            stray.unlink(missing_ok=True)
