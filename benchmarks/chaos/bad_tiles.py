"""Tiles that can't be computed: every one is reported with its box, none becomes background.

    python benchmarks/chaos/bad_tiles.py [--svs FILE] [--damaged 12] [--seed 0]

Compressed tiles of a slide are damaged (zeroed, garbage, cut off in the middle) in an SVS (JPEG;
FILE, or one made here) and in one stored as JPEG 2000; a network gives infinity at chosen pixels;
pixels are NaN or infinite. What must be left out is worked out with numpy: a tile is bad if
anything damaged is in its input, mirrored as the network sees it. With `--on-bad-tile fail`
nothing may be published; with `mask` the mask is 255 exactly there and everything else is as in
the undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import zarr
from desk import STEADY, Commands, noise, save_tiny_model, show

from tilseg.card import Normalization
from tilseg.fingerprint import plan_from_json

_OPTIONS = ("--tile", "64", "--threads", "1")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--svs", type=Path, help="An Aperio slide with JPEG tiles.")
    options.add_argument("--damaged", type=int, default=12)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    rng = random.Random(asked.seed)
    rows = []
    with tempfile.TemporaryDirectory() as place, Commands(Path(place)) as commands:
        folder = commands.folder
        save_tiny_model(folder / "tiny.safetensors", classes=3, normalization=STEADY)
        slide = folder / "slide.svs"
        if asked.svs:
            shutil.copy(asked.svs, slide)
        else:
            _write_slide(slide, "jpeg")
        _write_slide(folder / "jp2.svs", "aperio_jp2000_rgb")
        for image in (slide, folder / "jp2.svs"):
            for name, how in _WAYS.items():
                damaged = _damage_tiles(image, asked.damaged, how, rng)
                rows.append(_try(commands, image, damaged, f"{_codec(image)} tiles {name}"))
        hot = Normalization(kind="constants", mean=(127.0,) * 3, std=(0.01,) * 3)
        save_tiny_model(folder / "tiny.safetensors", classes=3, normalization=hot)
        title = "pixels of 3e38: scores overflow"
        rows.append(_try_pixels(commands, asked.damaged, 3e38, title, rng))
        for value in (np.nan, np.inf, -np.inf):
            title = f"pixels of {value}"
            rows.append(_try_pixels(commands, asked.damaged, float(value), title, rng))
    heads = ("what", "pixels damaged", "tiles left out", "named exactly", "255 exactly there")
    show("Bad tiles", (*heads, "rest equal", "fail publishes nothing", "exit codes"), rows)
    assert all(row[3] == row[4] == row[5] == row[6] == "yes" for row in rows)


@dataclass(frozen=True)
class _Damage:
    """A damaged copy of an image, and where: (rows, cols) bool. nodata: where pixels say so."""

    image: Path
    where: np.ndarray
    nodata: bool = False


def _write_slide(path: Path, codec: str) -> None:
    description = "Aperio Image Library v11.2.1\n1000x1000 (240x240) |AppMag = 20|MPP = 0.499"
    tifffile.imwrite(
        path,
        noise(1009, 1201),
        tile=(240, 240),
        photometric="rgb",
        compression=codec,
        description=description,
        metadata=None,
    )


def _codec(path: Path) -> str:
    with tifffile.TiffFile(path) as file:
        return "JPEG 2000" if "JP2" in file.pages[0].compression.name.upper() else "JPEG"


def _zero(stored: bytes, _: random.Random) -> bytes:
    return bytes(len(stored))


def _garbage(stored: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(len(stored))


def _cut(stored: bytes, rng: random.Random) -> bytes:
    keep = rng.randrange(1, len(stored) - 1)
    return stored[:keep] + bytes(len(stored) - keep)


_WAYS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "zeroed": _zero,
    "overwritten": _garbage,
    "cut off": _cut,
}


def _damage_tiles(
    image: Path, count: int, how: Callable[[bytes, random.Random], bytes], rng: random.Random
) -> _Damage:
    with tifffile.TiffFile(image) as file:
        page = file.pages[0]
        places = list(zip(page.dataoffsets, page.databytecounts, strict=True))
        rows, cols = page.imagelength, page.imagewidth
        tall, wide = page.tilelength, page.tilewidth
    content = bytearray(image.read_bytes())
    where = np.zeros((rows, cols), bool)
    across = -(-cols // wide)
    for index in rng.sample(range(len(places)), min(count, len(places) // 3)):
        offset, size = places[index]
        content[offset : offset + size] = how(bytes(content[offset : offset + size]), rng)
        row, col = divmod(index, across)
        where[row * tall : (row + 1) * tall, col * wide : (col + 1) * wide] = True
    # The same name, for it is the mask's name too.
    target = image.parent / "damaged" / image.name
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(content)
    return _Damage(target, where)


def _try_pixels(
    commands: Commands, count: int, value: float, title: str, rng: random.Random
) -> tuple[object, ...]:
    folder = commands.folder
    pixels = noise(701, 523, dtype=np.float32)
    where = np.zeros(pixels.shape[:2], bool)
    image = folder / "float.tif"
    tifffile.imwrite(image, pixels, tile=(128, 128), photometric="rgb")
    for _ in range(count):
        row, col = rng.randrange(701), rng.randrange(523)
        where[row, col] = True
        pixels[row, col, rng.randrange(3)] = value
    damaged = folder / "damaged" / image.name
    tifffile.imwrite(damaged, pixels, tile=(128, 128), photometric="rgb")
    return _try(commands, image, _Damage(damaged, where, nodata=not np.isfinite(value)), title)


def _try(commands: Commands, image: Path, damage: _Damage, title: str) -> tuple[object, ...]:
    folder = commands.folder
    for old in [*folder.glob("*.tilseg"), *folder.glob(".*.tilseg.partial")]:
        shutil.rmtree(old)
    run = ("--model", "tiny.safetensors", *_OPTIONS)
    assert commands.run("run", image, *run, "-o", "whole.tilseg").poll() == 0
    whole = _mask(folder / "whole.tilseg")
    fails = commands.run("run", damage.image, *run, "-o", "fail.tilseg")
    nothing = not (folder / "fail.tilseg").exists()
    masks = commands.run("run", damage.image, *run, "-o", "mask.tilseg", "--on-bad-tile", "mask")
    assert masks.poll() in (0, 3), masks.stderr
    receipt = json.loads((folder / "mask.tilseg" / "run.json").read_bytes())
    named = {tuple(tile["window"].values()) for tile in receipt["bad_tiles"]}
    bad = set() if damage.nodata else _bad(receipt, damage.where)
    out = damage.where.copy() if damage.nodata else np.zeros(whole.shape, bool)
    for row, col, rows, cols in bad:
        out[row : row + rows, col : col + cols] = True
    mask = _mask(folder / "mask.tilseg")
    # Where pixels are nodata the network sees the mean, so its answer may change around them.
    rest = damage.nodata or np.array_equal(mask[~out], whole[~out])
    codes = (fails.poll(), masks.poll())
    right = codes == ((0, 0) if damage.nodata else (5, 3))
    fail = "yes" if damage.nodata or (nothing and fails.poll() == 5) else "NO"
    return (
        title,
        int(damage.where.sum()),
        len(bad),
        _yes(named == bad),
        _yes(np.array_equal(mask == 255, out)),
        _yes(rest),
        fail,
        f"{codes[0]}, {codes[1]}" + ("" if right else " WRONG"),
    )


def _yes(value: bool) -> str:
    return "yes" if value else "NO"


def _bad(receipt: dict[str, object], where: np.ndarray) -> set[tuple[int, ...]]:
    """Boxes of the tiles that see a damaged pixel."""
    grid = plan_from_json(receipt["plan"]).grid  # type: ignore[arg-type]
    reach = max(grid.input)
    seen = np.pad(where, reach, mode="reflect")
    found = set()
    for block in grid:
        for tile in block.tiles:
            read, write = tile.read, tile.write
            row, col = read.row + reach, read.col + reach
            if seen[row : row + read.rows, col : col + read.cols].any():
                found.add((write.row, write.col, write.rows, write.cols))
    return found


def _mask(result: Path) -> np.ndarray:
    return np.asarray(zarr.open_group(result / "mask.zarr", mode="r")["0"])


if __name__ == "__main__":
    main()
