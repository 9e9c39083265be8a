"""What the benchmark scripts share: large images, models, and results in one place."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TILE = 256


def big_image(
    path: Path,
    rows: int,
    cols: int,
    *,
    quality: int = 85,
    tissue: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda *_: np.True_,
    pyramid: bool = False,
) -> Path:
    """A tiled JPEG TIFF of any size in seconds: one picture mirrored to a period of 1024 px.

    Only the sixteen tiles of a period are ever encoded; every reader sees the whole image.
    tissue: whether pixels, by (rows, 1) and (cols,), show the picture; the others are glass.
    pyramid: with levels of 1/4 and 1/16 behind it, as scanners write them.
    """
    import skimage.data
    import tifffile

    if path.exists():
        return path
    picture = skimage.data.immunohistochemistry()
    period = np.pad(picture, ((0, 512), (0, 512), (0, 0)), mode="symmetric")
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for factor in (1, 4, 16) if pyramid else (1,):
            side = len(period) // factor
            small = period.reshape(side, factor, side, factor, 3).mean(axis=(1, 3)).astype(np.uint8)
            size = (rows // factor, cols // factor)
            file.write(
                _tiles(small, size, quality, lambda r, c, f=factor: tissue(r * f, c * f)),
                shape=(*size, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="ycbcr",
                subsampling=(1, 1),
                compression="jpeg",
                subfiletype=int(factor > 1),
                resolution=(1e4 / 0.5 / factor, 1e4 / 0.5 / factor),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return path


def endless_image(path: Path, rows: int, cols: int) -> Path:
    """The picture and the levels of `big_image` at any size in a file of a few megabytes: its
    directories name the same tiles again and again."""
    import tifffile

    big_image(path, 1024, 1024, pyramid=True)
    with tifffile.TiffFile(path, mode="r+") as file:
        for page in file.pages:
            tags = page.tags  # type: ignore[union-attr]
            factor = 1024 // tags["ImageLength"].value
            size = rows // factor, cols // factor
            for name in ("TileOffsets", "TileByteCounts"):
                period = np.reshape(tags[name].value, (max(1, 1024 // factor // TILE), -1))
                r, c = (np.arange(-(-side // TILE)) % len(period) for side in size)
                tags[name].overwrite(period[r[:, None], c].ravel().tolist())
            tags["ImageLength"].overwrite(size[0])
            tags["ImageWidth"].overwrite(size[1])
    return path


def _tiles(
    period: np.ndarray,
    size: tuple[int, int],
    quality: int,
    tissue: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> Iterator[bytes]:
    """The JPEG tiles, row by row, of `size` (rows, cols) pixels that repeat a square `period`."""
    import imagecodecs

    def encode(pixels: np.ndarray) -> bytes:
        return imagecodecs.jpeg8_encode(
            np.ascontiguousarray(pixels),
            level=quality,
            colorspace="RGB",
            outcolorspace="YCBCR",
            subsampling="444",
        )

    times = max(1, TILE // len(period))
    period = np.tile(period, (times, times, 1))
    side = len(period) // TILE
    part = {
        (r, c): period[r * TILE : (r + 1) * TILE, c * TILE : (c + 1) * TILE]
        for r in range(side)
        for c in range(side)
    }
    encoded = {place: encode(pixels) for place, pixels in part.items()}
    glass = np.full((TILE, TILE, 3), 243, np.uint8)
    bare = encode(glass)
    inside = np.arange(TILE)
    for r in range(-(-size[0] // TILE)):
        for c in range(-(-size[1] // TILE)):
            place = r % side, c % side
            stained = tissue(r * TILE + inside[:, None], c * TILE + inside)
            if stained.all() or not stained.any():
                yield encoded[place] if stained.all() else bare
            else:
                yield encode(np.where(stained[..., None], part[place], glass))


def model_file(path: Path, *, width: int, depth: int = 4, bands: int = 3, classes: int = 2) -> Path:
    """A valid U-Net with random weights and batch normalisation, saved at `path`."""
    import torch

    from tilseg.card import Card, ClassInfo, Normalization
    from tilseg.models.network import save_model
    from tilseg.models.unet import build

    torch.manual_seed(0)
    parameters = {
        "bands": bands,
        "classes": classes,
        "depth": depth,
        "width": width,
        "norm": "batch",
    }
    network = build(parameters).eval()
    field = network.field
    card = Card(
        name=path.stem,
        architecture="unet",
        parameters=parameters,
        bands=bands,
        normalization=Normalization(kind="image"),
        head="softmax",
        classes=tuple(ClassInfo(name=f"class {k}", color="#808080") for k in range(classes)),
        halo=field.halo,
        stride=field.stride,
        offset=field.offset,
    )
    save_model(network, card, path)
    return path


def commit() -> str:
    """The commit measured, with a mark when the tree differs from it."""
    root = Path(__file__).parent

    def git(*arguments: str) -> str:
        found = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
        )
        return found.stdout.strip()

    dirty = "+" if git("status", "--porcelain", "--untracked-files=no", "../tilseg") else ""
    return git("rev-parse", "--short", "HEAD") + dirty


def machine() -> str:
    """Processor and number of CPUs, for the heading of a result."""
    import os

    name = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.split(":")[1].strip()
            break
    return f"{name}, {os.cpu_count()} CPUs"


def show(title: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], **facts: Any) -> None:
    """Print a result as an aligned Markdown table and as one line of JSON."""
    cells = [list(map(str, heads)), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    print(f"\n### {title}\n\n{machine()}, commit {commit()}\n")
    for number, row in enumerate(cells):
        print("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |")
        if number == 0:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")
    content = {"title": title, "commit": commit(), "machine": machine(), **facts}
    print("\n" + json.dumps(content | {"heads": list(heads), "rows": [list(r) for r in rows]}))
