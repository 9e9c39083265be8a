"""What `tilseg change` takes on a real map of the world and on a part of it.

    python benchmarks/change.py cog_world.tif WORK

The map after is the map before, moved by three columns. Prints a line for each size: pixels, peak
memory of a fresh process, wall and CPU seconds, and the areas.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

PARTS = ((5000, 18000, 4100, 4100), (0, 0, 18000, 36000))
STRIP = 512


def write_maps(world: Path, part: tuple[int, int, int, int], work: Path) -> tuple[Path, Path]:
    """before.tif and after.tif: `part` (row, col, rows, cols) of the map."""
    row, col, rows, cols = part
    before, after = work / "before.tif", work / "after.tif"
    with rasterio.open(world) as source:
        profile = {
            "driver": "GTiff",
            "count": 1,
            "dtype": "uint8",
            "nodata": 255,
            "height": rows,
            "width": cols,
            "crs": source.crs,
            "transform": source.window_transform(Window(col, row, cols, rows)),
            "tiled": True,
            "compress": "deflate",
        }
        with (
            rasterio.open(before, "w", **profile) as old,
            rasterio.open(after, "w", **profile) as new,
        ):
            for top in range(0, rows, STRIP):
                height = min(STRIP, rows - top)
                pixels = source.read(1, window=Window(col, row + top, cols, height))
                place = Window(0, top, cols, height)
                old.write(pixels, 1, window=place)
                new.write(np.roll(pixels, 3, axis=1), 1, window=place)
    return before, after


def main() -> None:
    world, work = Path(sys.argv[1]), Path(sys.argv[2])
    for part in PARTS:
        maps, began = write_maps(world, part, work), time.monotonic()
        command = ["tilseg", "change", *map(str, maps), "-o", str(work / "change"), "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        found = json.loads(process.stdout.read())
        _, status, usage = os.wait4(process.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        print(
            f"{found['pixels']:,} px: peak {usage.ru_maxrss / 1000:.0f} MB, "
            f"{time.monotonic() - began:.0f} s, CPU {usage.ru_utime + usage.ru_stime:.0f} s; "
            f"{found['area']:.8g} m2, of which {found['changed_area']:.8g} changed"
        )


if __name__ == "__main__":
    main()
