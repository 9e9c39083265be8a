"""What a TIFF file says of itself, read without any library, before one is let near it.

Follows TIFF 6.0 and the BigTIFF addition. Loops, directories beyond the end of the file and
impossible sizes are found here, where they cost nothing; a library may hang, crash or return
wrong pixels for the same file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.sources.address import Stored

# tag numbers
SUBFILE_TYPE, WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
DESCRIPTION, STRIP_OFFSETS, ORIENTATION, SAMPLES, ROWS_PER_STRIP = 270, 273, 274, 277, 278
STRIP_COUNTS, PLANAR, TILE_WIDTH, TILE_LENGTH = 279, 284, 322, 323
COLOR_MAP, TILE_OFFSETS, TILE_COUNTS, SAMPLE_FORMAT = 320, 324, 325, 339
PIXEL_SCALE, TIEPOINTS, TRANSFORMATION, GEO_KEYS = 33550, 33922, 34264, 34735
GEO_DOUBLES, GEO_ASCII, GDAL_METADATA, GDAL_NODATA, RPC = 34736, 34737, 42112, 42113, 50844
GEO_TAGS = (PIXEL_SCALE, TIEPOINTS, TRANSFORMATION, GEO_KEYS, GEO_DOUBLES, GEO_ASCII, GDAL_NODATA)

_MAX_DIRECTORIES = 10_000
# Bytes of tag values, however large the file: places of 16 million tiles.
_MAX_VALUES = 2**28
_TYPES = {
    1: "u1", 2: "S1", 3: "u2", 4: "u4", 5: "u4,u4", 6: "i1", 7: "V1", 8: "i2", 9: "i4",
    10: "i4,i4", 11: "f4", 12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8",
}  # fmt: skip
_WHOLE = {1, 3, 4, 6, 8, 9, 13, 16, 17, 18}


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag: its TIFF type, and its value as stored in the file's byte order."""

    type: int
    count: int
    raw: bytes


@dataclass(frozen=True, slots=True)
class Segments:
    """Strips or tiles of one directory, by what its header declares.

    grid: segments down and across. rows, cols: of one. planes: 1, or the samples where each
    is stored apart.
    """

    kind: str
    rows: int
    cols: int
    grid: tuple[int, int]
    planes: int

    @property
    def count(self) -> int:
        return self.grid[0] * self.grid[1] * self.planes


@dataclass(frozen=True, slots=True)
class Directory:
    """One image file directory: number `index` of the main chain."""

    path: Stored
    index: int
    order: Literal["<", ">"]
    tags: dict[int, Tag]

    def numbers(self, tag: int) -> NDArray[Any] | None:
        """Values of a tag of whole numbers, (n,); None where it is missing or something else."""
        found = self.tags.get(tag)
        if found is None or found.type not in _WHOLE or not found.raw:
            return None
        return np.frombuffer(found.raw, np.dtype(_TYPES[found.type]).newbyteorder(self.order))

    def number(self, tag: int, default: int) -> int:
        values = self.numbers(tag)
        return default if values is None else int(values[0])

    def text(self, tag: int) -> str:
        found = self.tags.get(tag)
        return "" if found is None else found.raw.decode("utf-8", "replace").rstrip("\0")

    @property
    def rows(self) -> int:
        return self.number(LENGTH, 0)

    @property
    def cols(self) -> int:
        return self.number(WIDTH, 0)

    @property
    def samples(self) -> int:
        return self.number(SAMPLES, 1)

    @property
    def is_reduced(self) -> bool:
        """Whether it is a smaller version of another image: an overview or a thumbnail."""
        return bool(self.number(SUBFILE_TYPE, 0) & 1)

    @property
    def is_mask(self) -> bool:
        """Whether it is a transparency mask of another image."""
        return bool(self.number(SUBFILE_TYPE, 0) & 4)

    @property
    def segments(self) -> Segments:
        planes = self.samples if self.number(PLANAR, 1) == 2 else 1
        if TILE_WIDTH in self.tags:
            kind, rows, cols = "tile", self.number(TILE_LENGTH, 0), self.number(TILE_WIDTH, 0)
        else:
            kind, rows = "strip", min(self.number(ROWS_PER_STRIP, self.rows), self.rows)
            cols = self.cols
        if rows < 1 or cols < 1:
            raise self.refuse(f"declares a {kind} of {rows} x {cols} pixels")
        return Segments(kind, rows, cols, (-(-self.rows // rows), -(-self.cols // cols)), planes)

    @property
    def segment_bytes(self) -> int:
        """Decoded bytes of one strip or tile; 0 for strips that can be read row by row."""
        segments, raw = self.segments, self.number(COMPRESSION, 1) == 1
        if raw and segments.kind == "strip":
            return 0
        samples = self.samples if segments.planes == 1 else 1
        return segments.rows * segments.cols * samples * self.number(BITS, 1) // 8

    @property
    def places(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Offsets and stored bytes of all strips or tiles."""
        tiled = self.segments.kind == "tile"
        offsets = self.numbers(TILE_OFFSETS if tiled else STRIP_OFFSETS)
        counts = self.numbers(TILE_COUNTS if tiled else STRIP_COUNTS)
        if offsets is None and tiled:
            # Some writers store the places of tiles under the tags of strips.
            offsets, counts = self.numbers(STRIP_OFFSETS), self.numbers(STRIP_COUNTS)
        if offsets is not None and counts is None and not self.says_sizes:
            counts = self._implied_sizes(len(offsets))
        if offsets is None or counts is None:
            raise self.refuse(f"does not say where its {self.segments.kind}s are")
        return offsets, counts

    @property
    def says_sizes(self) -> bool:
        """Whether it says how many bytes its strips or tiles have, as it must."""
        return bool({STRIP_COUNTS, TILE_COUNTS} & self.tags.keys())

    def _implied_sizes(self, count: int) -> NDArray[Any] | None:
        """Bytes of strips that are stored as they are, as TIFF readers work them out."""
        segments = self.segments
        packed = self.number(COMPRESSION, 1) != 1 or segments.kind == "tile"
        if packed or count != segments.count:
            return None
        samples = self.samples if segments.planes == 1 else 1
        row = -(-segments.cols * samples * self.number(BITS, 1) // 8)
        rows = np.full(segments.grid[0], segments.rows, np.uint64)
        rows[-1] = self.rows - segments.rows * (segments.grid[0] - 1)
        return np.tile(rows * np.uint64(row), segments.planes)

    def without_pixels(self, kept: tuple[int, ...]) -> bytes:
        """A TIFF of one float32 pixel that carries the tags `kept` of this directory."""
        short = struct.Struct(self.order + "H").pack
        pixel = dict.fromkeys((WIDTH, LENGTH, SAMPLES, ROWS_PER_STRIP, COMPRESSION, PHOTOMETRIC), 1)
        pixel |= {BITS: 32, SAMPLE_FORMAT: 3, STRIP_OFFSETS: 8, STRIP_COUNTS: 4}
        written = {number: Tag(3, 1, short(value)) for number, value in pixel.items()}
        written |= {number: self.tags[number] for number in kept if number in self.tags}
        # The pixel lies in bytes 8 to 12, then the directory, then the values that do not fit.
        entries, values = [], b""
        start = 12 + 2 + 12 * len(written) + 4
        for number, tag in sorted(written.items()):
            inline = tag.raw.ljust(4, b"\0")
            if len(tag.raw) > 4:
                inline = struct.pack(self.order + "I", start + len(values))
                values += tag.raw + b"\0" * (len(tag.raw) % 2)
            entries.append(struct.pack(self.order + "HHI", number, tag.type, tag.count) + inline)
        head = (b"II" if self.order == "<" else b"MM") + struct.pack(self.order + "HII", 42, 12, 0)
        return head + short(len(entries)) + b"".join(entries) + b"\0" * 4 + values

    def refuse(self, reason: str) -> InputError:
        """The error for a header that can't be."""
        return InputError(
            "E-INPUT-READ", path=self.path, reason=f"image {self.index} of the TIFF {reason}"
        )


def is_tiff(head: bytes) -> bool:
    """Whether a file begins as a TIFF or BigTIFF does."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_directories(path: Stored) -> tuple[Directory, ...]:
    """All directories of the main chain, first to last.

    Raises InputError E-INPUT-READ for a damaged chain: a loop, or a place outside the file.
    """
    with path.open("rb") as file:
        return tuple(_Walk(path, file))


class _Walk:
    """The chain of directories of an open file."""

    def __init__(self, path: Stored, file: BinaryIO) -> None:
        self.path, self.file, self.size = path, file, path.stat().st_size
        head = file.read(16)
        self.order: Literal["<", ">"] = "<" if head[:2] == b"II" else ">"
        self.big = head[2:4] in (b"+\0", b"\0+")
        form = "Q" if self.big else "I"
        self.pointer = struct.Struct(self.order + form)
        # entry: tag, type, count, value or its place
        self.entry = struct.Struct(self.order + "HH" + form)
        start = 8 if self.big else 4
        if len(head) < start + self.pointer.size:
            raise self.damage("ends inside its header")
        self.first = self.pointer.unpack_from(head, start)[0]
        # Values that lie apart can't be more than the file holds; some writers share a few.
        self.left = min(2 * self.size + 2**16, _MAX_VALUES)

    def damage(self, reason: str) -> InputError:
        return InputError("E-INPUT-READ", path=self.path, reason=f"the TIFF {reason}")

    def __iter__(self) -> Iterator[Directory]:
        seen: set[int] = set()
        place = self.first
        while place and len(seen) < _MAX_DIRECTORIES:
            if place in seen:
                raise self.damage("has directories that point to each other in a loop")
            seen.add(place)
            tags, place = self._directory(place)
            yield Directory(self.path, len(seen) - 1, self.order, tags)
        if not seen:
            raise self.damage("has no directory, so it holds no image")

    def _directory(self, place: int) -> tuple[dict[int, Tag], int]:
        count_format = struct.Struct(self.order + ("Q" if self.big else "H"))
        (count,) = count_format.unpack(self._bytes(place, count_format.size))
        width = self.entry.size + self.pointer.size
        if count > 65_535:
            raise self.damage(f"declares {count} tags at byte {place:,}")
        table = self._bytes(place + count_format.size, count * width)
        tags = {}
        for start in range(0, count * width, width):
            number, kind, items = self.entry.unpack_from(table, start)
            if kind in _TYPES:
                inline = table[start + self.entry.size : start + width]
                tags[number] = self._tag(kind, items, inline)
        end = place + count_format.size + count * width
        return tags, self.pointer.unpack(self._bytes(end, self.pointer.size))[0]

    def _tag(self, kind: int, items: int, inline: bytes) -> Tag:
        size = items * np.dtype(_TYPES[kind]).itemsize
        if size <= len(inline):
            return Tag(kind, items, inline[:size])
        self.left -= size
        if self.left < 0:
            raise self.damage("declares more values of tags than it holds")
        return Tag(kind, items, self._bytes(self.pointer.unpack(inline)[0], size))

    def _bytes(self, place: int, count: int) -> bytes:
        if place + count > self.size:
            raise InputError(
                "E-INPUT-TRUNCATED",
                path=self.path,
                reason=f"its TIFF header reaches to byte {place + count:,}, "
                f"the file has {self.size:,}",
            )
        self.file.seek(place)
        return self.file.read(count)
