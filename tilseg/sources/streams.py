"""How large a picture a JPEG, JPEG 2000, JPEG XL, JPEG XR, PNG or WebP stream says that it holds.

Decoders believe the stream and not the TIFF around it: two hundred bytes can ask for twelve
gigabytes. So a stream is asked first. Follows ITU T.81, T.800 and T.832, ISO 18181, PNG (third
edition) and the WebP container.
"""

from __future__ import annotations

import struct

from tilseg.window import Size

_SOF = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Width over height of the short forms of JPEG XL.
_RATIOS = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_XR_WIDTH, _XR_HEIGHT = 0xBC80, 0xBC81


def declared_size(stream: bytes) -> Size | None:
    """Rows and columns by the stream's own header; None where there is none that makes sense."""
    kinds = {
        _jpeg: stream.startswith(b"\xff\xd8"),
        _jpeg2000: stream.startswith(b"\xff\x4f\xff\x51") or stream[4:8] == b"jP  ",
        _jpegxl: stream.startswith(b"\xff\x0a") or stream[4:8] == b"JXL ",
        _jpegxr: stream.startswith(b"II\xbc"),
        _png: stream.startswith(b"\x89PNG"),
        _webp: stream.startswith(b"RIFF") and stream[8:12] == b"WEBP",
    }
    try:
        return next((read(stream) for read, is_it in kinds.items() if is_it), None)
    except (struct.error, ValueError):
        return None


def _jpeg(stream: bytes) -> Size | None:
    place = 2
    while True:
        mark, marker, length = struct.unpack_from(">BBH", stream, place)
        if mark != 0xFF or marker == 0xDA:
            return None
        if marker == 0xFF:  # a byte of padding
            place += 1
        elif marker in _SOF:
            rows, cols = struct.unpack_from(">HH", stream, place + 5)
            return Size(rows, cols)
        else:
            place += 2 + length


def _jpeg2000(stream: bytes) -> Size:
    start = stream.index(b"\xff\x4f\xff\x51")
    right, bottom, left, top = struct.unpack_from(">IIII", stream, start + 8)
    return Size(bottom - top, right - left)


def _jpegxl(stream: bytes) -> Size:
    start = 0
    if stream[4:8] == b"JXL ":
        # Bare codestream, or the first of its parts, which is numbered.
        whole, part = stream.find(b"jxlc"), stream.find(b"jxlp")
        start = whole + 4 if whole >= 0 else part + 8
    if stream[start : start + 2] != b"\xff\x0a":
        raise ValueError("no JPEG XL codestream")
    bits = _Bits(stream[start + 2 : start + 18])
    small = bits.take(1)
    rows = 8 * (bits.take(5) + 1) if small else bits.number()
    ratio = bits.take(3)
    if ratio:
        over, under = _RATIOS[ratio - 1]
        return Size(rows, rows * over // under)
    return Size(rows, 8 * (bits.take(5) + 1) if small else bits.number())


class _Bits:
    """Bits from the least significant one of the first byte on."""

    def __init__(self, content: bytes) -> None:
        self._left = int.from_bytes(content, "little")

    def take(self, count: int) -> int:
        taken = self._left & ((1 << count) - 1)
        self._left >>= count
        return taken

    def number(self) -> int:
        """JPEG XL's U32 of a size."""
        return 1 + self.take((9, 13, 18, 30)[self.take(2)])


def _jpegxr(stream: bytes) -> Size | None:
    (place,) = struct.unpack_from("<I", stream, 4)
    (count,) = struct.unpack_from("<H", stream, place)
    found = {}
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from("<HH", stream, entry)
        if tag in (_XR_WIDTH, _XR_HEIGHT):
            (found[tag],) = struct.unpack_from("<H" if kind == 3 else "<I", stream, entry + 8)
    return Size(found[_XR_HEIGHT], found[_XR_WIDTH]) if len(found) == 2 else None


def _png(stream: bytes) -> Size:
    cols, rows = struct.unpack_from(">II", stream, 16)
    return Size(rows, cols)


def _webp(stream: bytes) -> Size | None:
    form = stream[12:16]
    if form == b"VP8X":
        cols, rows = (int.from_bytes(stream[at : at + 3], "little") + 1 for at in (24, 27))
        return Size(rows, cols)
    if form == b"VP8L":
        (bits,) = struct.unpack_from("<I", stream, 21)
        return Size((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1)
    if form == b"VP8 ":
        cols, rows = struct.unpack_from("<HH", stream, 26)
        return Size(rows & 0x3FFF, cols & 0x3FFF)
    return None
