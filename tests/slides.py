"""Slides for tests, written here byte by byte: DICOM whole-slide images and Leica SCN."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

_WSI = "1.2.840.10008.5.1.4.1.1.77.1.6"
_EXPLICIT = "1.2.840.10008.1.2.1"
_LONG = ("OB", "SQ")


def _element(group: int, number: int, kind: str, value: Any) -> bytes:
    """One data element, explicit and little-endian (DICOM PS3.5, 7.1.2)."""
    if kind == "US":
        data = struct.pack("<H", value)
    elif kind == "UL":
        data = struct.pack("<I", value)
    elif kind == "SQ":
        data = b"".join(struct.pack("<HHI", 0xFFFE, 0xE000, len(one)) + one for one in value)
    else:
        data = value if isinstance(value, bytes) else value.encode()
        data += (b"\0" if kind in ("UI", "OB") else b" ") * (len(data) % 2)
    long = struct.pack("<2xI", len(data)) if kind in _LONG else struct.pack("<H", len(data))
    return struct.pack("<HH", group, number) + kind.encode() + long + data


def write_dicom(
    path: Path, pixels: NDArray[np.uint8], *, series: str, number: int, tile: int, mpp: float
) -> None:
    """One level, (rows, cols, 3), in uncompressed tiles; `number` tells levels apart."""
    rows, cols = pixels.shape[:2]
    down, across = -(-rows // tile), -(-cols // tile)
    padded = np.pad(pixels, ((0, down * tile - rows), (0, across * tile - cols), (0, 0)))
    frames = padded.reshape(down, tile, across, tile, 3).swapaxes(1, 2)
    spacing = _element(0x28, 0x30, "DS", f"{mpp / 1000}\\{mpp / 1000}")
    measures = _element(0x28, 0x9110, "SQ", [spacing])
    flavour = (
        "ORIGINAL\\PRIMARY\\VOLUME\\NONE" if number == 1 else "DERIVED\\PRIMARY\\VOLUME\\RESAMPLED"
    )
    dataset = b"".join(
        [
            _element(0x8, 0x8, "CS", flavour),
            _element(0x8, 0x16, "UI", _WSI),
            _element(0x8, 0x18, "UI", f"{series}.{number}"),
            _element(0x20, 0xD, "UI", "1.2.3.4"),
            _element(0x20, 0xE, "UI", series),
            _element(0x20, 0x9311, "CS", "TILED_FULL"),
            _element(0x28, 0x2, "US", 3),
            _element(0x28, 0x4, "CS", "RGB"),
            _element(0x28, 0x6, "US", 0),
            _element(0x28, 0x8, "IS", str(down * across)),
            _element(0x28, 0x10, "US", tile),
            _element(0x28, 0x11, "US", tile),
            _element(0x28, 0x100, "US", 8),
            _element(0x28, 0x101, "US", 8),
            _element(0x28, 0x102, "US", 7),
            _element(0x28, 0x103, "US", 0),
            _element(0x48, 0x6, "UL", cols),
            _element(0x48, 0x7, "UL", rows),
            _element(0x48, 0x303, "UL", 1),
            _element(0x5200, 0x9229, "SQ", [measures]),
            _element(0x7FE0, 0x10, "OB", frames.tobytes()),
        ]
    )
    meta = b"".join(
        [
            _element(0x2, 0x1, "OB", b"\0\1"),
            _element(0x2, 0x2, "UI", _WSI),
            _element(0x2, 0x3, "UI", f"{series}.{number}"),
            _element(0x2, 0x10, "UI", _EXPLICIT),
            _element(0x2, 0x12, "UI", "1.2.3"),
        ]
    )
    length = _element(0x2, 0x0, "UL", len(meta))
    path.write_bytes(bytes(128) + b"DICM" + length + meta + dataset)


_SCN = """<?xml version="1.0"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">
<collection name="c" sizeX="{across}" sizeY="{down}"><barcode></barcode>{images}</collection></scn>"""
_IMAGE = """<image name="i"><pixels sizeX="{cols}" sizeY="{rows}">{levels}</pixels>
<view sizeX="{wide}" sizeY="{tall}" offsetX="{x}" offsetY="{y}"/>
<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>
<illuminationSettings><illuminationSource>brightfield</illuminationSource>
</illuminationSettings></scanSettings></image>"""


def write_scn(
    path: Path, areas: list[tuple[int, int, NDArray[np.uint8]]], rows: int, cols: int
) -> None:
    """A slide of `rows` x `cols` pixels of 0.5 um on which `areas` were scanned, each at a row
    and a column, and at half its size too; and a photograph of all of it."""
    pages = [np.zeros((rows // 10, cols // 10, 3), np.uint8)]
    photograph = f'<dimension sizeX="{cols // 10}" sizeY="{rows // 10}" r="0" ifd="0"/>'
    sizes = {"cols": cols // 10, "rows": rows // 10, "wide": cols * 500, "tall": rows * 500}
    images = [_IMAGE.format(levels=photograph, x=0, y=0, **sizes)]
    for row, col, pixels in areas:
        levels = ""
        for number, level in enumerate((pixels, pixels[::2, ::2])):
            tall, wide = level.shape[:2]
            levels += f'<dimension sizeX="{wide}" sizeY="{tall}" r="{number}" ifd="{len(pages)}"/>'
            pages.append(level)
        tall, wide = pixels.shape[:2]
        sizes = {"cols": wide, "rows": tall, "wide": wide * 500, "tall": tall * 500}
        images.append(_IMAGE.format(levels=levels, x=col * 500, y=row * 500, **sizes))
    text = _SCN.format(across=cols * 500, down=rows * 500, images="".join(images))
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for number, page in enumerate(pages):
            file.write(
                page, tile=(64, 64), compression="zlib", photometric="rgb", metadata=None,
                description=text if number == 0 else None, resolutionunit="CENTIMETER",
                resolution=(20_000, 20_000),
            )  # fmt: skip
