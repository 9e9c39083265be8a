"""Small valid files of five kinds, and seeded damage to them."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from tiny import noise, save_tiny_model

SHAPE = (97, 61)
_APERIO = (
    "Aperio Image Library v11.2.1 \r\n97x61 (32x32) JPEG/RGB Q=70|AppMag = 20|MPP = 0.4990|"
    "Left = 25.6|Top = 23.4"
)


def tiff(path: Path) -> None:
    """Tiled, deflated, with a predictor and an overview."""
    with tifffile.TiffWriter(path) as file:
        options: Any = {"tile": (32, 32), "compression": "zlib", "predictor": True}
        file.write(noise(*SHAPE), photometric="rgb", subifds=1, **options)
        file.write(noise(*SHAPE)[::2, ::2], photometric="rgb", subfiletype=1, **options)


def svs(path: Path) -> None:
    """A slide as Aperio writes it: JPEG tiles, a thumbnail in strips, a label."""
    rgb: Any = {"photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as file:
        jpeg: Any = {**rgb, "compression": "jpeg"}
        file.write(noise(*SHAPE), tile=(32, 32), description=_APERIO, **jpeg)
        file.write(noise(24, 15), description=_APERIO, **jpeg)
        file.write(noise(20, 20), description="Aperio\r\nlabel 20x20", subfiletype=1, **rgb)


def ome_tiff(path: Path) -> None:
    """Channels in planes of their own, with a pixel size, in a BigTIFF of the other byte order."""
    planes = np.moveaxis(noise(*SHAPE, dtype=np.uint16), -1, 0)
    place = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, planes, ome=True, bigtiff=True, byteorder=">", metadata=place)


def ome_zarr(path: Path) -> None:
    """Two levels and three channels, in OME-Zarr 0.5."""
    group = zarr.open_group(path, mode="w")
    pixels = np.moveaxis(noise(*SHAPE), -1, 0)
    for name, level in (("0", pixels), ("1", pixels[:, ::2, ::2])):
        array = group.create_array(name, shape=level.shape, chunks=(3, 32, 32), dtype="uint8")
        array[:] = level
    axes = [{"name": a, "type": "channel" if a == "c" else "space"} for a in "cyx"]
    scales = [[{"type": "scale", "scale": [1.0, s, s]}] for s in (1.0, 2.0)]
    datasets = [
        {"path": str(k), "coordinateTransformations": scale} for k, scale in enumerate(scales)
    ]
    image = {"axes": axes, "datasets": datasets, "name": "noise"}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}


def model(path: Path) -> None:
    save_tiny_model(path)


KINDS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "tiff": ("image.tif", tiff),
    "svs": ("slide.svs", svs),
    "ome-tiff": ("stack.ome.tif", ome_tiff),
    "zarr": ("image.zarr", ome_zarr),
    "model": ("tiny.safetensors", model),
}

_NUMBERS = (0, 1, 2, 3, 4, 7, 8, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63)


def damage(content: bytes, rng: random.Random) -> bytes:
    """`content` with one to five things wrong, more often near its ends, where headers are."""
    found = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 3, 5])):
        if found:
            rng.choice(_WAYS)(found, _place(len(found), rng), rng)
    return bytes(found)


def _place(size: int, rng: random.Random) -> int:
    near = min(600, size)
    return rng.choice([rng.randrange(near), size - 1 - rng.randrange(near), rng.randrange(size)])


def _bit(found: bytearray, at: int, rng: random.Random) -> None:
    found[at] ^= 1 << rng.randrange(8)


def _byte(found: bytearray, at: int, rng: random.Random) -> None:
    found[at] = rng.choice([0, 1, 2, 4, 127, 128, 254, 255])


def _number(found: bytearray, at: int, rng: random.Random) -> None:
    width = rng.choice([2, 4, 8])
    number = rng.choice(_NUMBERS) % 256**width
    found[at : at + width] = number.to_bytes(width, rng.choice(["little", "big"]))


def _cut(found: bytearray, at: int, rng: random.Random) -> None:
    del found[at:]


def _gap(found: bytearray, at: int, rng: random.Random) -> None:
    del found[at : at + rng.choice([1, 2, 4, 12, 100])]


def _double(found: bytearray, at: int, rng: random.Random) -> None:
    part = bytes(found[at : at + rng.choice([1, 2, 12, 100])])
    found[at:at] = part


def _zeros(found: bytearray, at: int, rng: random.Random) -> None:
    count = rng.choice([4, 16, 512])
    found[at : at + count] = bytes(len(found[at : at + count]))


_WAYS = (_bit, _byte, _byte, _number, _number, _cut, _gap, _double, _zeros)


def mutate(good: Path, bad: Path, rng: random.Random) -> None:
    """Copy the file or folder `good` to `bad`, damaged."""
    if good.is_file():
        bad.write_bytes(damage(good.read_bytes(), rng))
        return
    shutil.copytree(good, bad)
    files = sorted(path for path in bad.rglob("*") if path.is_file())
    texts = [path for path in files if path.name == "zarr.json"]
    for _ in range(rng.choice([1, 1, 2])):
        path = rng.choice(rng.choice([files, texts]))
        if rng.random() < 0.1:
            path.unlink(missing_ok=True)
        elif path.exists():
            path.write_bytes(damage(path.read_bytes(), rng))
