"""What reading an image in strips costs, block beside block, with rows kept and without.

    python benchmarks/strips.py [--rows 5003] [--cols 30011] [--work DIR]

The image is a compressed TIFF of RGB whose strips are one row high, GDAL's default, once as it is and
once as a map, which GDAL reads. CPU seconds are of all threads; the least is a pass over whole rows.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import skimage.data
from common import model_file, show
from rasterio.transform import from_origin
from rasterio.windows import Window as Place

import tilseg
from tilseg.plan import Plan
from tilseg.reading import read_filled
from tilseg.source import Source
from tilseg.sources.planned import open_planned
from tilseg.window import Window

PERIOD = 1024
PASS = 256


def striped(path: Path, rows: int, cols: int, compression: str, crs: str | None) -> Path:
    """A picture mirrored again and again, with noise, which hardly compresses, as photographs do."""
    picture = np.pad(skimage.data.immunohistochemistry(), ((0, 512), (0, 512), (0, 0)), "symmetric")
    rng = np.random.default_rng(0)
    wide = np.tile(picture, (1, -(-cols // PERIOD), 1))[:, :cols]
    wide = wide & 0xF8 | rng.integers(0, 8, wide.shape, np.uint8)
    with rasterio.open(
        path, "w", driver="GTiff", height=rows, width=cols, count=3, dtype="uint8", blockysize=1,
        compress=compression, photometric="rgb", interleave="pixel", crs=crs,
        transform=from_origin(0, 0, 1, 1) if crs else None,
    ) as file:  # fmt: skip
        for row in range(0, rows, PERIOD):
            count = min(PERIOD, rows - row)
            file.write(np.moveaxis(wide[:count], 2, 0), window=Place(0, row, cols, count))
    return path


def in_blocks(plan: Plan) -> str:
    """Read every block as a run does, three at a time; returns what tells their pixels."""
    found, source = hashlib.sha256(), open_planned(plan)
    windows = (plan.grid.block_at(index).read for index in range(len(plan.grid)))
    with ThreadPoolExecutor(3) as threads:
        for pixels in _ahead(threads, lambda window: read_filled(plan, source, window)[0], windows):
            found.update(pixels[::97].tobytes())
    source.close()
    return found.hexdigest()


def in_passes(source: Source) -> None:
    """Read all of it in whole rows."""
    rows, cols = source.shape
    for row in range(0, rows, PASS):
        source.read(Window(row, 0, min(PASS, rows - row), cols))


def _ahead(
    threads: ThreadPoolExecutor, work: Callable[[Window], np.ndarray], items: Iterator[Window]
) -> Iterator[np.ndarray]:
    waiting = deque(threads.submit(work, item) for item, _ in zip(items, range(3), strict=False))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(threads.submit(work, item) for item, _ in zip(items, range(1), strict=False))


def cpu_seconds(work: Callable[[], object]) -> tuple[float, object]:
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5003)
    parser.add_argument("--cols", type=int, default=30011)
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp())
    model = tilseg.load_model(model_file(work / "strips.safetensors", width=16))
    rows = []
    for compression in ("deflate", "lzw"):
        for crs in (None, "EPSG:32633"):
            path = striped(work / "strips.tif", asked.rows, asked.cols, compression, crs)
            source = tilseg.open_source(path)
            plan = tilseg.make_plan(source, model, regions=None)
            assert plan.keep_rows
            least, _ = cpu_seconds(lambda source=source: in_passes(source))
            source.close()
            kept, pixels = cpu_seconds(lambda plan=plan: in_blocks(plan))
            apart, same = cpu_seconds(lambda plan=plan: in_blocks(replace(plan, keep_rows=False)))
            assert pixels == same
            reader = "GDAL" if crs else "tifffile"
            rows.append([compression, reader, f"{least:.1f}", f"{kept:.1f}", f"{apart:.1f}"])
            path.unlink()
    block = " x ".join(map(str, plan.grid.read))
    heads = ["compression", "reader", "whole rows, s", "blocks, rows kept, s", "block by block, s"]
    megapixels = asked.rows * asked.cols / 1e6
    show(f"Strips: {megapixels:.0f} Mpix, blocks that read {block} pixels, CPU", heads, rows)
    if asked.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
