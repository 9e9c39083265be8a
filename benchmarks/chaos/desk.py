"""What the chaos scripts share: images, models, undisturbed results, and what must be equal.

Commands are forked from a process that has imported everything (tests/forking.py), so that a
kill comes in the middle of the work and not in the middle of the imports.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / "tests"), str(ROOT / "benchmarks")]

import numpy as np  # noqa: E402
import rasterio  # noqa: E402
import tifffile  # noqa: E402
from common import show  # noqa: E402
from damage import damage, flip_bit  # noqa: E402
from forking import Command, Commands  # noqa: E402
from rasterio.transform import from_origin  # noqa: E402
from tiny import STEADY, noise, save_tiny_model, tree  # noqa: E402

__all__ = [
    "CASES",
    "STEADY",
    "Case",
    "Command",
    "Commands",
    "content",
    "damage",
    "flip_bit",
    "furnish",
    "leftovers",
    "noise",
    "opened",
    "receipt_of",
    "save_tiny_model",
    "show",
]


@dataclass(frozen=True)
class Case:
    """An image, what is made of it, and what that is when nobody disturbs."""

    name: str
    image: str
    suffix: str
    model: str = "tiny.safetensors"
    tile: int = 64

    def command(self, name: str, *options: str) -> tuple[str, ...]:
        fixed = ("--model", self.model, "--tile", str(self.tile), "--threads", "1")
        return ("run", self.image, *fixed, *options, "-o", f"{name}{self.suffix}")


# A plain image gives OME-TIFF, a georeferenced one a COG.
CASES = (
    Case("OME-TIFF + zarr", "image.tif", ".tilseg"),
    Case("COG + zarr", "scene.tif", ".tilseg"),
    Case("zarr alone", "image.tif", ".zarr"),
    Case("COG alone", "scene.tif", ".tif"),
)


def furnish(folder: Path) -> None:
    """Models and images; "large" ones make masks that take twice what is expected of them."""
    save_tiny_model(folder / "tiny.safetensors", classes=3)
    save_tiny_model(folder / "other.safetensors", classes=3, seed=1)
    for name, rows, cols in (("", 701, 523), ("large ", 2003, 1811)):
        pixels = noise(rows, cols)
        options = {"tile": (128, 128), "photometric": "rgb"}
        tifffile.imwrite(folder / f"{name}image.tif", pixels, **options)
        _write_scene(folder / f"{name}scene.tif", pixels[:, : cols - 60])


def _write_scene(path: Path, pixels: np.ndarray) -> None:
    rows, cols, bands = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=rows,
        width=cols,
        count=bands,
        dtype="uint8",
        crs="EPSG:32633",
        transform=from_origin(400_000, 5_000_000, 0.5, 0.5),
        tiled=True,
        blockxsize=128,
        blockysize=128,
    ) as scene:
        scene.write(pixels.transpose(2, 0, 1))


@contextmanager
def opened(folder: Path, cases: Sequence[Case] = CASES) -> Iterator[Commands]:
    """A furnished folder with the undisturbed result of every case, `whole<number>`."""
    furnish(folder)
    with Commands(folder) as commands:
        for number, case in enumerate(cases):
            done = commands.run(*case.command(f"whole{number}"))
            assert done.poll() == 0, done.stderr
        yield commands


def receipt_of(result: Path) -> Path:
    return (
        result.with_name(f"{result.name}.json")
        if result.suffix != ".tilseg"
        else (result / "run.json")
    )


def content(result: Path) -> dict[str, Any]:
    """All of a result that may not depend on what happened on the way."""
    receipt = json.loads(receipt_of(result).read_bytes())
    summary = receipt["summary"]
    for name in ("seconds", "blocks"):
        summary.pop(name)
    files = tree(result) if result.is_dir() else {result.name[-4:]: result.read_bytes()}
    same = ("blocks", "fingerprint", "status", "bad_tiles")
    return {"files": files, "summary": summary, **{name: receipt[name] for name in same}}


def leftovers(folder: Path, name: str) -> list[str]:
    """What lies about of an output that is done."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(f".{name}"))
