"""Instances: the same for all blocks, how long they take, and in how much memory.

    python benchmarks/instances.py discs [--count 100000]
        a field of discs that touch, nearly all of them one region, in blocks of three sizes
    python benchmarks/instances.py nuclei DSB2018
        20 pictures of nuclei, segmented by the bundled model, in blocks of three sizes
    python benchmarks/instances.py memory [--megapixels 25 100 400]
        `tilseg measure --instances watershed` on fields of discs, each in a fresh process
    python benchmarks/instances.py mask FILE
        the same on any mask

Prints a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import show
from numpy.typing import NDArray

BLOCKS = ((1024, 1024), (389, 701), (2048, 613))
STEP = 15  # between the centres of discs, before they are moved by up to 1
PICTURES = 20

_MEASURED = """
import resource, sys
from tilseg.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
    raise
"""


def field(rows: int, cols: int, seed: int = 0) -> NDArray[np.uint8]:
    """Discs on a jittered lattice of `rows` x `cols`, most of which touch their neighbours."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((rows * STEP + 6, cols * STEP + 7), np.uint8)
    offset = np.arange(-9, 10)
    squared = offset[:, None] ** 2 + offset**2
    for row in range(rows):
        for col in range(cols):
            radius = rng.uniform(7, 8.5)
            y, x = (at * STEP + 10 + int(rng.integers(-1, 2)) for at in (row, col))
            near = mask[y - 9 : y + 10, x - 9 : x + 10]
            near |= squared[: near.shape[0], : near.shape[1]] <= radius**2
    return mask


def instances(mask: NDArray[Any], block: tuple[int, int]) -> NDArray[np.uint32]:
    from tilseg.georef import Georef
    from tilseg.instance_rule import Watershed
    from tilseg.instances import find_instances
    from tilseg.plan import RegionOptions
    from tilseg.regions import BlockGrid
    from tilseg.regions.measuring import Measuring
    from tilseg.window import Size, Window

    options, shape = RegionOptions(instances=None), Size(*mask.shape)
    measuring = Measuring.on(Georef(), BlockGrid(shape, shape), options, nodata=255, background=0)
    with tempfile.TemporaryDirectory() as folder:
        found = find_instances(
            lambda window: mask[window.slices],
            measuring,
            Watershed(),
            Path(folder, "instances"),
            block=Size(*block),
        )
        return found.read(Window.whole(shape))


def compare(name: str, masks: Iterator[NDArray[Any]]) -> None:
    from skimage.measure import label

    regions = pixels = 0
    counts, seconds, same = [0] * len(BLOCKS), [0.0] * len(BLOCKS), [0] * len(BLOCKS)
    for mask in masks:
        regions += int(label(mask == 1, connectivity=2).max())
        pixels += mask.size
        first = None
        for number, block in enumerate(BLOCKS):
            began = time.process_time()
            found = instances(mask, block)
            seconds[number] += time.process_time() - began
            counts[number] += int(found.max())
            first = found if first is None else first
            same[number] += int(np.array_equal(found, first))
    rows = [
        (f"{block[0]} x {block[1]}", count, equal, f"{spent:.1f}", f"{pixels / 1e6 / spent:.1f}")
        for block, count, equal, spent in zip(BLOCKS, counts, same, seconds, strict=True)
    ]
    heads = ("block", "instances", "equal masks", "CPU s", "Mpix/s")
    show(f"Instances: {name}", heads, rows, regions=regions, megapixels=round(pixels / 1e6, 1))


def pictures(data: Path) -> Iterator[NDArray[Any]]:
    """Masks of the first pictures of `data`, by the bundled model."""
    import imagecodecs
    import tifffile

    import tilseg
    from tilseg.sinks.zarr import MaskStore
    from tilseg.window import Window

    model = tilseg.load_model("nuclei", device="cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in sorted((data / "images").glob("*.png"))[:PICTURES]:
            picture = imagecodecs.png_decode(path.read_bytes())[..., :3]
            tifffile.imwrite(folder / f"{path.stem}.tif", picture, photometric="rgb")
            source = tilseg.open_source(folder / f"{path.stem}.tif")
            result = folder / f"{path.stem}.tilseg"
            plan = tilseg.make_plan(source, model, regions=None)
            tilseg.run(plan, result, outputs=("zarr",))
            store = MaskStore.open(result / "mask.zarr")
            yield store.read(Window.whole(store.shape))


def peak(mask: Path, folder: Path) -> tuple[int, float, int]:
    """Peak resident bytes and seconds of measuring a mask, and how many instances it has."""
    output = folder / "out"
    arguments = ["measure", str(mask), "--instances", "watershed", "-o", str(output), "--json"]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found = re.search(r'"regions": (\d+)', done.stdout)
    assert found is not None
    return int(done.stderr.split("PEAK")[1]), time.perf_counter() - began, int(found[1])


def memory(megapixels: list[int]) -> None:
    import tifffile

    rows = []
    period = field(67, 89)
    for size in megapixels:
        with tempfile.TemporaryDirectory() as name:
            side = math.isqrt(size * 10**6)
            turns = [-(-side // length) for length in period.shape]
            mask = np.tile(period, turns)[:side, :side]
            tifffile.imwrite(Path(name, "mask.tif"), mask, tile=(512, 512), compression="deflate")
            del mask
            bytes_, seconds, count = peak(Path(name, "mask.tif"), Path(name))
        rows.append((size, f"{bytes_ / 1e6:.0f}", f"{seconds:.1f}", f"{count:,}"))
    show("Instances: memory", ("megapixels", "peak RSS, MB", "seconds", "instances"), rows)


def one_mask(path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        bytes_, seconds, count = peak(path, Path(name))
    row = (path.name, f"{bytes_ / 1e6:.0f}", f"{seconds:.1f}", f"{count:,}")
    show("Instances: one mask", ("mask", "peak RSS, MB", "seconds", "instances"), [row])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("discs").add_argument("--count", type=int, default=100_000)
    verbs.add_parser("nuclei").add_argument("data", type=Path)
    verb = verbs.add_parser("memory")
    verb.add_argument("--megapixels", type=int, nargs="+", default=[25, 100, 400])
    verbs.add_parser("mask").add_argument("file", type=Path)
    given = parser.parse_args()
    if given.verb == "discs":
        rows = math.isqrt(given.count * 5 // 8)
        compare("discs", iter([field(rows, given.count // rows)]))
    elif given.verb == "nuclei":
        compare("nuclei", pictures(given.data))
    elif given.verb == "memory":
        memory(given.megapixels)
    else:
        one_mask(given.file)


if __name__ == "__main__":
    main()
