"""What it saves to segment only tissue: one slide with and without `--tissue auto`.

    python benchmarks/tissue.py [--megapixels 100] [--background 0.7] [--tile 256] [--model nuclei]

The slide is made in seconds: an island of stained tissue on glass, as a tiled JPEG TIFF of 0.5 um with
a pyramid, as scanners write them.
The labels inside the tissue mask are compared, and must be the same.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import TILE, big_image, show

from tilseg.fingerprint import plan_from_json
from tilseg.sinks.zarr import MaskStore
from tilseg.where.chosen import Chosen
from tilseg.window import Window


def _island(
    rows: int, cols: int, asked: argparse.Namespace
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Which pixels lie in the ellipse in the middle that leaves `background` outside."""
    square = (1 - asked.background) / math.pi
    return lambda row, col: (row / rows - 0.5) ** 2 + (col / cols - 0.5) ** 2 < square


def run(image: Path, output: Path, *options: str) -> dict[str, Any]:
    """One run of the command: its wall and CPU seconds, and its receipt."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = ["tilseg", "run", str(image), "-o", str(output), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu, "receipt": json.loads((output / "run.json").read_text())}


def compare(whole: Path, part: Path, receipt: dict[str, Any]) -> tuple[int, int]:
    """Pixels of tissue, and how many pixels are not what they should be."""
    plan = plan_from_json(receipt["plan"])
    masks = [MaskStore.open(folder / "mask.zarr") for folder in (whole, part)]
    chosen = Chosen(plan.selection, plan.grid.shape)
    tissue = wrong = 0
    for row in range(0, plan.grid.shape.rows, 4 * TILE):
        window = Window(row, 0, min(4 * TILE, plan.grid.shape.rows - row), plan.grid.shape.cols)
        inside = chosen.wanted(window, None).tissue
        inside = np.ones(window.size, bool) if inside is None else inside
        all_of_it, found = (mask.read(window) for mask in masks)
        tissue += int(inside.sum())
        wrong += int((found != np.where(inside, all_of_it, 0)).sum())
    return tissue, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=float, default=100)
    parser.add_argument("--background", type=float, default=0.7)
    parser.add_argument("--tile", default="256")
    parser.add_argument("--model", default="nuclei")
    asked = parser.parse_args()
    rows = math.isqrt(int(asked.megapixels * 1e6 * 3 / 4)) // TILE * TILE + 77
    cols = rows * 4 // 3 + 31
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = big_image(
            folder / "slide.tif", rows, cols, tissue=_island(rows, cols, asked), pyramid=True
        )
        options = ("--model", asked.model, "--tile", asked.tile, "--no-regions")
        whole = run(image, folder / "whole", *options, "--tissue", "none")
        part = run(image, folder / "part", *options, "--tissue", "auto")
        tissue, wrong = compare(folder / "whole", folder / "part", part["receipt"])
    sys.exit(report(asked, rows * cols, whole, part, tissue, wrong))


def report(
    asked: argparse.Namespace, area: int, whole: Any, part: Any, tissue: int, wrong: int
) -> int:
    lines = []
    for title, pick in {
        "wall": lambda each: each["wall"],
        "CPU": lambda each: each["cpu"],
        "wall of the blocks": lambda each: each["receipt"]["summary"]["seconds"]["predict"],
    }.items():
        one, other = pick(whole), pick(part)
        lines.append((title, f"{one:.1f} s", f"{other:.1f} s", f"{one / other:.2f}"))
    blocks = part["receipt"]["summary"]["blocks"]
    show(
        f"{area / 1e6:.0f} megapixels, {asked.background:.0%} of them glass, tile {asked.tile}",
        ("", "all of it", "tissue", "times faster"),
        lines,
        tissue=round(tissue / area, 4),
        blocks=blocks,
        wrong=wrong,
    )
    return int(wrong > 0)


if __name__ == "__main__":
    main()
