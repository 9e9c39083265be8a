"""A scene of one file per band against the same bands in one file: peak memory and time.

    python benchmarks/scene.py [--megapixels 16 100] [--memory 2GB] [--work DIR]

Four bands of uint16 at 10 m: in one file, in four, and in four of which two are at 20 m and aligned.
Each run is a fresh process, and measures no regions.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from common import model_file, show
from memory import peak_of_run
from rasterio.transform import from_origin
from rasterio.windows import Window

BANDS = 4
SIDE = 1024


def write(path: Path, rows: int, cols: int, bands: tuple[int, ...], side: float) -> Path:
    """Tiled TIFF of some of the bands, written square by square."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(1, 4000, (BANDS, SIDE // 8, SIDE // 8)).astype(np.uint16)
    square = coarse.repeat(8, 1).repeat(8, 2)[list(bands)]
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint16", count=len(bands), height=rows, width=cols,
        crs="EPSG:32633", transform=from_origin(4e5, 6e6, side, side), tiled=True, compress="zstd",
    ) as dataset:  # fmt: skip
        for row in range(0, rows, SIDE):
            for col in range(0, cols, SIDE):
                height, width = min(SIDE, rows - row), min(SIDE, cols - col)
                window = Window(col, row, width, height)
                dataset.write(square[:, :height, :width], window=window)
    return path


def scenes(work: Path, rows: int, cols: int) -> dict[str, tuple[str, ...]]:
    """The arguments that name each kind of input."""
    stack = write(work / "stack.tif", rows, cols, tuple(range(BANDS)), 10.0)
    fine = [write(work / f"B{k}.tif", rows, cols, (k,), 10.0) for k in range(BANDS)]
    coarse = [write(work / f"C{k}.tif", -(-rows // 2), -(-cols // 2), (k,), 20.0) for k in range(2)]
    return {
        "one file": (str(stack),),
        "four files": (",".join(map(str, fine)),),
        "two of four aligned": (",".join(map(str, [*coarse, *fine[2:]])), "--align"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=int, nargs="+", default=[16, 100])
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())
    model = model_file(work / "width4.safetensors", width=4, bands=BANDS)
    rows = []
    for megapixels in options.megapixels:
        side = math.isqrt(megapixels * 10**6)
        for kind, image in scenes(work, side + 13, side - 11).items():
            # The regions that random weights find are many, and their table grows with the image.
            peak, seconds = peak_of_run((*image, "--no-regions"), model, work, options.memory)
            rows.append((kind, megapixels, round(peak / 1e6), round(seconds, 1)))
    show(
        f"Scenes, four bands, width 4, budget {options.memory}",
        ("input", "megapixels", "peak RSS, MB", "seconds"),
        rows,
    )
    if options.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
