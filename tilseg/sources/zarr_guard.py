"""Chunks of a zarr array, looked at before zarr decodes them.

A codec unpacks whatever it is given: a few kilobytes may become gigabytes, and a chunk that is a
pipe is waited for without end. So the file of each chunk is asked first, once, what it unpacks
to. Follows the zarr v2 and v3 specifications, the sharding codec 1.0, RFC 8878 (Zstandard) and
the chunk header of Blosc.
"""

from __future__ import annotations

import bz2
import itertools
import lzma
import math
import stat
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tilseg.errors import InputError

# A chunk may unpack to twice what it should, or to this much.
_SLACK = 2**24
_PIECE = 2**20
_EMPTY = 2**64 - 1
_STREAMS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "zlib": zlib.decompressobj,
    "bz2": bz2.BZ2Decompressor,
    "lzma": lzma.LZMADecompressor,
}
_COMPRESSORS = {*_STREAMS, "zstd", "blosc", "lz4"}


class ChunkGuard:
    """Looks at the chunks of one array in the folder `path`.

    Raises InputError E-INPUT-READ for codecs that are not to be trusted: pickle, which runs
    code, and compressions on top of each other.
    """

    def __init__(self, path: Path, array: Any) -> None:
        self._path = path
        self._folder = path / array.path
        self._array = array
        self._chunk = array.shards or array.chunks
        self._seen: set[tuple[int, ...]] = set()
        self._shard, names = _codecs(array.metadata)
        self._compressor = next((name for name in names if name in _COMPRESSORS), "")
        self._bound = max(2 * math.prod(array.chunks) * array.dtype.itemsize, _SLACK)
        if "pickle" in names:
            raise self._refuse("is packed by pickle, which runs code and is never unpacked")
        if len(_COMPRESSORS.intersection(names)) > 1 or len(names) != len(set(names)):
            raise self._refuse(f"is packed by one codec on top of another ({', '.join(names)})")

    def check(self, selection: Iterable[slice | int]) -> None:
        """Raise InputError E-INPUT-READ for a chunk in `selection` that must not be decoded."""
        touched = []
        for index, side in zip(selection, self._chunk, strict=True):
            first, stop = (
                (index.start, index.stop) if isinstance(index, slice) else (index, index + 1)
            )
            touched.append(range(first // side, (stop - 1) // side + 1))
        for chunk in itertools.product(*touched):
            if chunk not in self._seen:
                self._check(chunk)
                self._seen.add(chunk)

    def _check(self, chunk: tuple[int, ...]) -> None:
        key = self._array.metadata.encode_chunk_key(chunk)
        file = self._folder / key
        try:
            mode = file.stat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISREG(mode):
            raise self._refuse(f"chunk {key} is not a regular file")
        if not self._compressor:
            return
        with file.open("rb") as opened:
            for place, size in self._parts(opened, file.stat().st_size):
                found = _decoded(self._compressor, opened, place, size, self._bound)
                if found > self._bound:
                    reason = f"chunk {key} unpacks to more than {self._bound / 2**20:,.0f} MiB"
                    raise self._refuse(reason)

    def _parts(self, opened: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
        """Place and bytes of each chunk in a file: one, or those of a shard's index."""
        if self._shard is None:
            yield 0, size
            return
        count = math.prod(
            outer // inner for outer, inner in zip(self._chunk, self._array.chunks, strict=True)
        )
        tail = 16 * count + 4 * self._shard["checked"]
        opened.seek(0 if self._shard["first"] else max(size - tail, 0))
        index = np.frombuffer(opened.read(16 * count), "<u8")
        for place, length in index[: len(index) // 2 * 2].reshape(-1, 2).tolist():
            if place != _EMPTY and place + length <= size:
                yield place, length

    def _refuse(self, reason: str) -> InputError:
        name = f"array {self._array.path} " if self._array.path else ""
        return InputError("E-INPUT-READ", path=self._path, reason=f"{name}{reason}")


def _codecs(metadata: Any) -> tuple[dict[str, bool] | None, list[str]]:
    """How shards are laid out (None without them), and the names of all codecs of a chunk."""
    if metadata.zarr_format == 2:
        packed = [metadata.compressor, *(metadata.filters or ())]
        return None, [codec.codec_id for codec in packed if codec is not None]
    codecs = [codec.to_dict() for codec in metadata.codecs]
    shard = None
    if codecs[0]["name"] == "sharding_indexed":
        settings = codecs[0]["configuration"]
        shard = {
            "first": settings["index_location"] == "start",
            "checked": any(codec["name"] == "crc32c" for codec in settings["index_codecs"]),
        }
        codecs = [*settings["codecs"], *codecs[1:]]
    return shard, [str(codec["name"]).removeprefix("numcodecs.") for codec in codecs]


def _decoded(name: str, file: BinaryIO, place: int, size: int, bound: int) -> int:
    """Bytes that what is stored unpacks to; counted up to one more than `bound`."""
    file.seek(place)
    if name in _STREAMS:
        # Deflate packs 1032 bytes into one at best.
        small = name in ("gzip", "zlib") and 1032 * size <= bound
        return 0 if small else _streamed(_STREAMS[name], file, size, bound)
    head = file.read(min(size, 18))
    if len(head) < 9:
        return 0
    if name == "blosc":
        return int.from_bytes(head[4:8], "little")
    if name == "lz4":
        return int.from_bytes(head[:4], "little")
    known = _zstd(head)
    if known is not None:
        return known
    file.seek(place)
    return _tried(file.read(size), bound)


def _streamed(make: Callable[[], Any], file: BinaryIO, size: int, bound: int) -> int:
    """Unpack piece by piece, keeping nothing; a codec takes any number of streams in a row."""
    stream, count = make(), 0
    while size > 0 and count <= bound:
        data = file.read(min(size, _PIECE))
        size -= len(data)
        if not data:
            break
        while count <= bound:
            try:
                count += len(stream.decompress(data, _PIECE))
            except (zlib.error, lzma.LZMAError, OSError):
                # Damage is zarr's to find: here only the size matters.
                return count
            if stream.eof:
                stream, data = make(), stream.unused_data
            elif hasattr(stream, "unconsumed_tail"):
                data = stream.unconsumed_tail
            else:
                data = b""
                if not stream.needs_input:
                    continue
            if not data:
                break
    return count


def _zstd(head: bytes) -> int | None:
    """The content size of a Zstandard frame, where its header has it."""
    magic, descriptor = struct.unpack_from("<IB", head)
    if magic != 0xFD2FB528:
        return None
    single = descriptor >> 5 & 1
    width = (single, 2, 4, 8)[descriptor >> 6]
    place = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    if not width:
        return None
    return int.from_bytes(head[place : place + width], "little") + 256 * (width == 2)


def _tried(stored: bytes, bound: int) -> int:
    """Size of a Zstandard frame that does not say it, by unpacking into bounded memory."""
    import imagecodecs

    try:
        return len(imagecodecs.zstd_decode(stored, out=bound))
    except imagecodecs.ZstdError as error:
        return bound + 1 if "too small" in str(error) else 0
