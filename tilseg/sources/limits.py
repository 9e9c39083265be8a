"""Bounds that every reader keeps, whatever its format."""

from __future__ import annotations

from tilseg.errors import InputError

# Decoded bytes of one compressed strip, tile, chunk or picture beyond which an image can't be
# read by windows in bounded memory.
MAX_SEGMENT = 2**28

# An image of so many pixels, of which less than one strip, tile or chunk in a thousand is
# stored, is empty for days of work. Sparse maps of the world hold more.
_GIANT = 10**9
_STORED = 1000


def too_large(path: object, kind: str, size: int) -> InputError:
    """The error for one strip, tile, chunk or picture of `size` decoded bytes."""
    return InputError(
        "E-INPUT-SEGMENT",
        path=path,
        kind=kind,
        size=f"{size / 2**20:,.0f} MiB",
        bound=f"{MAX_SEGMENT / 2**20:,.0f} MiB",
    )


def needed_segments(pixels: int, count: int) -> int:
    """How many of `count` strips, tiles or chunks an image of `pixels` must store."""
    return -(-count // _STORED) if pixels >= _GIANT else 0


def check_stored(path: object, *, pixels: int, stored: int, count: int, kind: str) -> None:
    """Raise InputError E-INPUT-SPARSE for a giant of which next to nothing is stored."""
    if stored < needed_segments(pixels, count):
        raise InputError(
            "E-INPUT-SPARSE",
            path=path,
            size=f"{pixels / 1e9:,.1f} gigapixels",
            stored=f"{stored:,}",
            count=f"{count:,}",
            kind=kind,
        )
