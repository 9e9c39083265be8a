"""PNG and JPEG, through imagecodecs: formats that can only be decoded whole.

The picture is decoded at the first read and kept until `close`, so its size is bounded; a
larger one is refused from its header. Numbers are those stored: grey of one bit is 0 and 1.
Alpha is no band but a mask. An EXIF orientation is applied. Says nothing of pixel size: the
density in these files is how large to print.
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from tilseg.choice import Choice
from tilseg.errors import InputError, UsageError
from tilseg.georef import Georef
from tilseg.source import Source
from tilseg.sources.base import FileSource, level_of
from tilseg.sources.limits import MAX_SEGMENT, too_large
from tilseg.sources.turned import Turn
from tilseg.window import Size, Window

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"

_GREY, _PALETTE = 0, 3
_COLOURS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}
_WITH_ALPHA = (4, 6)
_ORIENTATION = 274
# Progressive JPEGs have about ten scans; hours hide in a few thousand.
_MAX_SCANS = 500


@dataclass(frozen=True, slots=True)
class _Header:
    """What a picture says of itself. kind: PNG colour type, or None in a JPEG."""

    rows: int
    cols: int
    depth: int
    bands: int
    alpha: bool
    kind: int | None
    orientation: int

    @property
    def bytes(self) -> int:
        """Of the decoded picture."""
        return self.rows * self.cols * (self.bands + self.alpha) * max(self.depth, 8) // 8


def open_path(path: Path, choice: Choice) -> Source:
    """The picture at `path`.

    Raises InputError E-INPUT-READ, -TRUNCATED, -PALETTE, and -SEGMENT for one too large.
    """
    choice.refuse_all_but(path, "palette")
    with path.open("rb") as file:
        try:
            header = _png(path, file) if file.read(8) == PNG else _jpeg(path, file)
        except struct.error:
            raise _cut(path) from None
    if header.rows < 1 or header.cols < 1:
        raise _refuse(path, f"declares {header.rows} x {header.cols} pixels")
    if choice.palette == "expand" and header.kind != _PALETTE:
        raise UsageError("E-CHOICE", path=path, option="palette", value="expand")
    if header.kind == _PALETTE and choice.palette is None:
        raise InputError("E-INPUT-PALETTE", path=path)
    if header.bytes > MAX_SEGMENT:
        raise too_large(path, "picture", header.bytes)
    return PictureSource(path, choice, header)


class PictureSource(FileSource[Path]):
    """A picture, decoded whole when first read."""

    def __init__(self, path: Path, choice: Choice, header: _Header) -> None:
        self._header = header
        self._turn = Turn(header.orientation)
        self._lock = threading.Lock()
        self._decoded: NDArray[Any] | None = None
        self._numbers = header.kind == _PALETTE and choice.palette == "index"
        size = self._turn.size(Size(header.rows, header.cols))
        turned = f"turned as its orientation tag ({header.orientation}) says"
        super().__init__(
            path,
            choice,
            reader=f"imagecodecs {imagecodecs.__version__}",
            dtype=np.dtype(np.uint16 if header.depth == 16 else np.uint8),
            band_names=("",) * (1 if self._numbers else header.bands),
            levels=(level_of(size, size),),
            georef=Georef(),
            notes=(turned,) if self._turn else (),
            segment_bytes=header.bytes,
        )

    def _pixels(self) -> NDArray[Any]:
        """The whole picture as seen, alpha last where it has one."""
        with self._lock:
            if self._decoded is None:
                self._decoded = self._turn.apply(self._decode())
            return self._decoded

    def _decode(self) -> NDArray[Any]:
        header, data = self._header, self.path.read_bytes()
        try:
            if header.kind is None:
                pixels = np.atleast_3d(imagecodecs.jpeg_decode(data))
            else:
                data = _as_grey(data) if self._numbers else data
                pixels = np.atleast_3d(imagecodecs.png_decode(data))
        except Exception as error:
            raise _refuse(self.path, f"can't be decoded: {error}") from error
        if self._numbers or header.kind == _GREY:
            # The decoder spreads fewer bits over 0 to 255.
            pixels[..., 0] //= 255 // (2**header.depth - 1) if header.depth < 8 else 1
        bands = 1 if self._numbers else header.bands + header.alpha
        if pixels.shape != (header.rows, header.cols, bands):
            raise _refuse(self.path, f"decodes to {pixels.shape}, not what its header says")
        return pixels

    def _read(self, window: Window, level: int, bands: tuple[int, ...]) -> NDArray[Any]:  # noqa: ARG002
        rows, cols = window.slices
        return self._pixels()[rows, cols][..., list(bands)]

    def _mask(self, window: Window, level: int) -> NDArray[np.bool_] | None:  # noqa: ARG002
        if not self._header.alpha or self._numbers:
            return None
        opaque: NDArray[np.bool_] = self._pixels()[window.slices][..., -1] > 0
        return np.ascontiguousarray(opaque)

    def close(self) -> None:
        with self._lock:
            self._decoded = None


def _refuse(path: Path, reason: str) -> InputError:
    return InputError("E-INPUT-READ", path=path, reason=reason)


def _cut(path: Path) -> InputError:
    return InputError("E-INPUT-TRUNCATED", path=path, reason="ends in the middle of the picture")


def _png(path: Path, file: BinaryIO) -> _Header:
    """Header of a PNG (third edition), `file` being behind its signature."""
    rows = cols = depth = kind = 0
    transparent, orientation = False, 1
    while True:
        length, name = struct.unpack(">I4s", file.read(8))
        if name == b"IDAT":
            break
        if name == b"IHDR":
            cols, rows, depth, kind = struct.unpack(">IIBB", file.read(10))
            file.seek(length - 10, 1)
        elif name == b"eXIf":
            orientation = _orientation(file.read(length))
        else:
            transparent |= name == b"tRNS"
            file.seek(length, 1)
        file.seek(4, 1)
    if kind not in _COLOURS or depth not in (1, 2, 4, 8, 16):
        raise _refuse(path, f"declares the unknown PNG colour type {kind} of {depth} bits")
    alpha = transparent or kind in _WITH_ALPHA
    return _Header(rows, cols, depth, _COLOURS[kind], alpha, kind, orientation)


def _jpeg(path: Path, file: BinaryIO) -> _Header:
    """Header of a JPEG (ITU T.81), and a look whether its end is there."""
    orientation, frame = 1, None
    file.seek(2)
    while True:
        mark, marker, length = struct.unpack(">BBH", file.read(4))
        if mark != 0xFF:
            raise _refuse(path, f"has no marker at byte {file.tell() - 4:,}")
        content = file.read(length - 2)
        if marker == 0xE1 and content.startswith(b"Exif\0\0"):
            orientation = _orientation(content[6:])
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = struct.unpack(">BHHB", content[:6])
        elif marker == 0xDA:
            break
    # The decoder makes up what is missing. Between scans and the end mark, no 0xFF 0xD9 occurs.
    rest = file.read()
    if b"\xff\xd9" not in rest:
        raise _cut(path)
    if rest.count(b"\xff\xda") > _MAX_SCANS:
        raise _refuse(path, f"has more than {_MAX_SCANS} scans, each of which costs a full decode")
    if frame is None:
        raise _refuse(path, "has no JPEG frame")
    depth, rows, cols, bands = frame
    if depth != 8 or bands not in (1, 3):
        reason = f"is a JPEG of {bands} components of {depth} bits; only 1 or 3 of 8 are read"
        raise _refuse(path, reason)
    return _Header(rows, cols, depth, bands, False, None, orientation)


def _orientation(exif: bytes) -> int:
    """The Orientation of EXIF, a small TIFF; 1 where it is missing or makes no sense."""
    order = "<" if exif[:2] == b"II" else ">"
    try:
        (place,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, place)
        for entry in range(place + 2, place + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == _ORIENTATION:
                return int(value)
    except struct.error:
        # EXIF is a note about the picture: damage in it does not make the pixels wrong.
        return 1
    return 1


def _as_grey(png: bytes) -> bytes:
    """A palette PNG as a grey one of equal numbers: only its header says otherwise."""
    kept = [PNG]
    for name, content in _chunks(png):
        if name == b"IHDR":
            kept.append(_chunk(name, content[:9] + bytes([_GREY]) + content[10:]))
        elif name in (b"IDAT", b"IEND"):
            kept.append(_chunk(name, content))
    return b"".join(kept)


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(PNG)
    while place < len(png):
        length, name = struct.unpack_from(">I4s", png, place)
        yield name, png[place + 8 : place + 8 + length]
        place += 12 + length


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I4s", len(content), name) + content + struct.pack(">I", checksum)
