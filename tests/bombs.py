"""Small files that ask for much: memory, time, or both. Each is made in a moment."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

_GEO = [(33550, 12, 3, (10.0, 10.0, 0.0), True), (33922, 12, 6, (0, 0, 0, 5e5, 5e6, 0), True)]


def _header(path: Path, entries: list[tuple[int, int, int, int]], rest: bytes = b"") -> None:
    """A little-endian TIFF of one directory with `entries` of tag, type, count, value."""
    table = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    path.write_bytes(head + table + b"\0\0\0\0" + rest)


def shared_values(path: Path) -> None:
    """60,000 tags whose values all lie in the same 4 MB."""
    entries = [(1000 + k, 1, 2**22, 8) for k in range(60_000)]
    _header(path, [(256, 3, 1, 64), (257, 3, 1, 64), *entries], bytes(2**22))


def shared_directories(path: Path) -> None:
    """10,000 directories, each with a description of the same 2 MB."""
    count, size = 10_000, 2**21
    tables = []
    for k in range(count):
        following = 8 + 30 * (k + 1) if k + 1 < count else 0
        entries = struct.pack("<HHII", 256, 3, 1, 64) + struct.pack("<HHII", 270, 2, size, 8)
        tables.append(struct.pack("<H", 2) + entries + struct.pack("<I", following))
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + b"".join(tables) + b"x" * size)


def wide(path: Path) -> None:
    """Two thousand million pixels a side."""
    sizes = [(256, 4, 1, 2**31 - 1), (257, 4, 1, 2**31 - 1), (258, 3, 1, 8), (259, 3, 1, 8)]
    _header(path, [*sizes, (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, 1, 100)])


def many_bands(path: Path) -> None:
    """A tile of 65,535 bands."""
    sizes = [(256, 4, 1, 65_536), (257, 4, 1, 65_536), (258, 3, 1, 8), (259, 3, 1, 8)]
    tiles = [(322, 3, 1, 256), (323, 3, 1, 256), (324, 4, 1, 8), (325, 4, 1, 100)]
    _header(path, [*sizes, *tiles, (277, 3, 1, 65_535)])


def _tile(path: Path, content: bytes, compression: int, *, geo: bool = False) -> None:
    """One tile of 256 x 256 RGB pixels that holds `content`."""
    tags: Any = {"extratags": _GEO} if geo else {}
    pixels = np.zeros((256, 256, 3), np.uint8)
    tifffile.imwrite(path, pixels, tile=(256, 256), metadata=None, photometric="rgb", **tags)
    data = bytearray(path.read_bytes())
    (place,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, place)
    for entry in range(place + 2, place + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, entry)
        values = {259: compression, 324: len(data), 325: len(content)}
        if tag in values:
            struct.pack_into("<HII", data, entry + 2, 4, 1, values[tag])
    path.write_bytes(data + content)


def _zeros(pieces: int) -> bytes:
    """A zlib stream of `pieces` x 64 MiB of zeros."""
    packer = zlib.compressobj(9)
    piece = bytes(2**26)
    return b"".join(packer.compress(piece) for _ in range(pieces)) + packer.flush()


def deflate_tile(path: Path) -> None:
    """One tile that inflates to a gigabyte."""
    _tile(path, _zeros(16), 8)


def deflate_map_tile(path: Path) -> None:
    """The same in a file with a georeference."""
    _tile(path, _zeros(16), 8, geo=True)


def zstd_tile(path: Path) -> None:
    _tile(path, imagecodecs.zstd_encode(bytes(2**30)), 50_000)


def lzma_tile(path: Path) -> None:
    _tile(path, imagecodecs.lzma_encode(bytes(2**28)), 34_925)


def jpeg_tile(path: Path) -> None:
    """A tile whose JPEG says that it has 65,500 x 65,500 pixels."""
    data = bytearray(imagecodecs.jpeg8_encode(np.zeros((256, 256, 3), np.uint8)))
    at = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, 65_500, 65_500)
    _tile(path, bytes(data), 7)


def jpeg_map_tile(path: Path) -> None:
    jpeg_tile(path)
    stored = path.read_bytes()
    _tile(path, stored[stored.rindex(b"\xff\xd8\xff") :], 7, geo=True)


def jpeg2000_tile(path: Path) -> None:
    """A tile whose JPEG 2000 has 20,000 x 20,000 pixels, all zero."""
    data = bytearray(
        imagecodecs.jpeg2k_encode(np.zeros((256, 256, 3), np.uint8), codecformat="j2k")
    )
    at = data.index(b"\xff\x51")
    struct.pack_into(">II", data, at + 6, 60_000, 60_000)
    struct.pack_into(">II", data, at + 22, 60_000, 60_000)
    _tile(path, bytes(data), 33_005)


def png_tile(path: Path) -> None:
    """A tile whose PNG says that it has a thousand million pixels."""
    data = bytearray(imagecodecs.png_encode(np.zeros((256, 256, 3), np.uint8)))
    struct.pack_into(">II", data, 16, 40_000, 40_000)
    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    _tile(path, bytes(data), 34_933)


def webp_tile(path: Path) -> None:
    """A tile whose WebP has 16,000 x 16,000 pixels."""
    _tile(
        path,
        imagecodecs.webp_encode(np.zeros((12_000, 12_000, 3), np.uint8), lossless=True),
        50_001,
    )


def laughing_ome(path: Path) -> None:
    """OME-XML whose entities would grow to gigabytes (billion laughs)."""
    entities = "".join(
        f'<!ENTITY l{k + 1} "{"&l" + str(k) + ";" * 1}{("&l" + str(k) + ";") * 9}">'
        for k in range(9)
    )
    ns = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    xml = (
        f'<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY l0 "laughing out loud">{entities}]>'
        f'<OME {ns}><Image ID="Image:0" Name="&l9;"><Pixels DimensionOrder="XYCZT" Type="uint8" '
        'SizeX="64" SizeY="64" SizeC="1" SizeZ="1" SizeT="1"><TiffData/></Pixels></Image></OME>'
    )
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), description=xml, metadata=None)


def png_text(path: Path) -> None:
    """A PNG with a compressed comment of a gigabyte."""
    data = imagecodecs.png_encode(np.zeros((64, 64), np.uint8))
    content = b"Comment\0\0" + _zeros(16)
    length, checksum = struct.pack(">I", len(content)), zlib.crc32(b"zTXt" + content)
    chunk = length + b"zTXt" + content + struct.pack(">I", checksum)
    path.write_bytes(data[:33] + chunk + data[33:])


def png_wide(path: Path) -> None:
    data = bytearray(imagecodecs.png_encode(np.zeros((64, 64), np.uint8)))
    struct.pack_into(">II", data, 16, 2**31 - 1, 2**31 - 1)
    path.write_bytes(data)


def _zarr(path: Path, codecs: list[dict[str, Any]], chunk: bytes, side: int = 64) -> None:
    """A zarr array of one chunk of 64 x 64 bytes that holds `chunk`."""
    grid = {"name": "regular", "configuration": {"chunk_shape": [64, 64]}}
    meta = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [side, side],
        "data_type": "uint8",
        "chunk_grid": grid,
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}, *codecs],
    }
    (path / "c" / "0").mkdir(parents=True)
    (path / "zarr.json").write_text(json.dumps(meta))
    (path / "c" / "0" / "0").write_bytes(chunk)


def zarr_gzip(path: Path) -> None:
    packer = zlib.compressobj(9, wbits=31)
    piece = bytes(2**26)
    chunk = b"".join(packer.compress(piece) for _ in range(16)) + packer.flush()
    _zarr(path, [{"name": "gzip", "configuration": {"level": 5}}], chunk)


def zarr_zstd(path: Path) -> None:
    codec = {"name": "zstd", "configuration": {"level": 0, "checksum": False}}
    _zarr(path, [codec], imagecodecs.zstd_encode(bytes(2**30)))


def zarr_blosc(path: Path) -> None:
    from numcodecs import Blosc

    codec = {"cname": "zstd", "clevel": 5, "shuffle": "noshuffle", "typesize": 1, "blocksize": 0}
    chunk = Blosc("zstd", clevel=9).encode(bytes(2**30))
    _zarr(path, [{"name": "blosc", "configuration": codec}], chunk)


def zarr_wide(path: Path) -> None:
    """An array of 10^18 pixels of which one chunk is stored."""
    _zarr(path, [], bytes(4096), side=10**9)


def model_header(path: Path) -> None:
    """A model file whose header is 90 MB of JSON."""
    header = b'{"a":[' + b"[]," * 30_000_000 + b"[]]}"
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def model_hole(path: Path) -> None:
    """A model file of a terabyte, all of it a hole in the disk."""
    header = (
        b'{"__metadata__":{"tilseg":"{}"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    )
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(2**40)


def model_zip(path: Path) -> None:
    """A PyTorch file of 1 MB that unpacks to a gigabyte."""
    import zipfile

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(2**30))


IMAGES: dict[str, Callable[[Path], None]] = {
    make.__name__: make
    for make in (
        shared_values, shared_directories, wide, many_bands, deflate_tile, deflate_map_tile,
        zstd_tile, lzma_tile, jpeg_tile, jpeg_map_tile, jpeg2000_tile, png_tile, webp_tile,
        laughing_ome, png_text, png_wide, zarr_gzip, zarr_zstd, zarr_blosc, zarr_wide,
    )
}  # fmt: skip
MODELS: dict[str, Callable[[Path], None]] = {
    make.__name__: make for make in (model_header, model_hole, model_zip)
}
