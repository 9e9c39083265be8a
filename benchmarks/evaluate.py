"""How long a comparison takes, and in how much memory.

    python benchmarks/evaluate.py MASK [--shift 3]
        MASK against itself moved by some pixels to the right, with all pictures; the moved copy
        is a tiled TIFF that is made first, for a real second file. Checked against counts that
        are made while it is moved.

Prints a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from common import show
from rasterio.windows import Window


def move(path: Path, moved: Path, shift: int) -> dict[str, int]:
    """Write the copy; how many pixels are 1 in both, and 1 in either."""
    counts = {"both": 0, "either": 0}
    with rasterio.open(path) as file:
        profile = dict(file.profile, driver="GTiff", tiled=True, blockxsize=512, blockysize=512)
        with rasterio.open(moved, "w", **profile) as out:
            for row in range(0, file.height, 512):
                rows = min(512, file.height - row)
                strip = file.read(1, window=Window(0, row, file.width, rows))
                other = np.zeros_like(strip)
                other[:, shift:] = strip[:, :-shift]
                out.write(other, 1, window=Window(0, row, file.width, rows))
                counts["both"] += int(np.count_nonzero(strip & other))
                counts["either"] += int(np.count_nonzero(strip | other))
    return counts


def measure(path: Path, shift: int) -> dict[str, Any]:
    import tilseg

    with tempfile.TemporaryDirectory() as folder:
        moved = Path(folder, "moved.tif")
        # In a process of its own, whose memory is not counted here.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            expected = pool.submit(move, path, moved, shift).result()
        imported = peak_megabytes()
        began = time.perf_counter()
        score = tilseg.evaluate(path, moved, output=Path(folder, "score"))
        seconds = time.perf_counter() - began
    land = score.classes[1]
    assert land.both == expected["both"]
    assert land.truth + land.predicted - land.both == expected["either"]
    objects = score.objects
    return {
        "megapixels": round(score.pixels / 1e6),
        "seconds": round(seconds, 1),
        "Mpix/s": round(score.pixels / 1e6 / seconds, 1),
        "peak MB": round(peak_megabytes()),
        "MB of imports": round(imported),
        "IoU": land.iou,
        "boundary F1": land.boundary_f1,
        "objects of the truth": objects.true_positives + objects.false_negatives,
        "objects predicted": objects.true_positives + objects.false_positives,
        "object F1": objects.f1,
        "AJI": objects.aji,
        "adapted Rand error": score.partition.adapted_rand_error,
    }


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mask", type=Path)
    parser.add_argument("--shift", type=int, default=3)
    given = parser.parse_args()
    report = measure(given.mask, given.shift)
    show("evaluate", ("figure", "value"), list(report.items()), **report)


if __name__ == "__main__":
    main()
