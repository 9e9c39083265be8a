"""Which pixels of an image are segmented, as values that a plan can hold and send.

Both are resolved: what was found on an overview or read from a file, not where it came from, so
that every process and every later start sees the same pixels.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilseg.window import Size

# The origin of a mask that tilseg has found.
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class TissueMask:
    """A small mask stretched over the whole image: true where there is tissue.

    origin: AUTO, or the path of the file it was read from. shape: of the mask. bits: its
    pixels in raster order, packed, compressed and as text.
    """

    origin: str
    shape: Size
    bits: str

    @classmethod
    def of(cls, mask: NDArray[np.bool_], origin: str) -> TissueMask:
        """`mask` (rows, cols) as a value."""
        return cls(origin, Size(*mask.shape), _packed(np.packbits(mask).tobytes()))

    @property
    def pixels(self) -> NDArray[np.bool_]:
        """The mask, (rows, cols)."""
        packed = np.frombuffer(_unpacked(self.bits), np.uint8)
        bits = np.unpackbits(packed, count=self.shape.area)
        return bits.astype(np.bool_).reshape(self.shape)

    @property
    def sha256(self) -> str:
        """Of shape and pixels, whoever compressed them."""
        return _hash(f"{self.shape.rows} {self.shape.cols} ".encode() + _unpacked(self.bits))


@dataclass(frozen=True, slots=True)
class Roi:
    """Polygons in columns and rows of the plan's grid; a pixel whose centre lies in one is wanted.

    path: of the file they were read from. wkb: one geometry collection of them as WKB,
    compressed and as text.
    """

    path: str
    wkb: str

    @classmethod
    def of(cls, wkb: bytes, path: str) -> Roi:
        return cls(path, _packed(wkb))

    @property
    def geometry(self) -> bytes:
        """The polygons as WKB."""
        return _unpacked(self.wkb)

    @property
    def sha256(self) -> str:
        return _hash(self.geometry)


@dataclass(frozen=True, slots=True)
class Selection:
    """Outside `tissue` pixels are background, outside `roi` nodata; None selects everything."""

    tissue: TissueMask | None = None
    roi: Roi | None = None

    @property
    def files(self) -> list[Path]:
        """The files it was read from."""
        masks = [] if self.tissue is None or self.tissue.origin == AUTO else [self.tissue.origin]
        return [Path(name) for name in (masks if self.roi is None else [*masks, self.roi.path])]


EVERYTHING = Selection()


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
