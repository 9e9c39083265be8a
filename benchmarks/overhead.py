"""How much of the bare network's rate `tilseg.run` keeps, file to mask on disk, imports excluded.

    python benchmarks/overhead.py [--megapixels 64] [--pyramid] [--width 16] [--rounds 3] [--work DIR]

The bare rate is the best over tiles of 384 to 1024 px of the same network with the same levers
(folded, channels last, as many predictions at once on as many threads, and also one on all of
them), on pixels that are in memory; rounds of bare and run are interleaved and medians are shown. With
`--pyramid` the image has coarse levels, as slides and COGs have, and need not be read once more for the
picture in the report.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from common import big_image, model_file, show

import tilseg
from tilseg.plan import Plan
from tilseg.verbs.bench import prediction_rate
from tilseg.window import Window

TILES = (384, 512, 640, 768, 896, 1024)


def run_rate(plan: Plan, output: Path) -> float:
    """Megapixels a second of one whole run."""
    shutil.rmtree(output, ignore_errors=True)
    began = time.perf_counter()
    tilseg.run(plan, output, outputs=("zarr",))
    seconds = time.perf_counter() - began
    shutil.rmtree(output)
    return plan.grid.shape.area / seconds / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=int, default=64)
    parser.add_argument("--pyramid", action="store_true")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4, help="of each bare measurement")
    parser.add_argument("--regions", action="store_true", help="measure regions too")
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())
    side = math.isqrt(options.megapixels * 10**6)
    name = f"overhead-{options.megapixels}{'-levels' * options.pyramid}.tif"
    image = big_image(work / name, side, side, pyramid=options.pyramid)
    file = model_file(work / "overhead.safetensors", width=options.width)
    source = tilseg.open_source(image)
    model = tilseg.load_model(file, precision=options.precision)
    choices = {} if options.regions else {"regions": None}
    plan = tilseg.make_plan(source, model, precision=options.precision, **choices)
    pixels = source.read(Window(0, 0, 1300, 1300))
    cpus = plan.lanes * plan.threads
    by_threads = {
        threads: tilseg.load_model(file, precision=options.precision, threads=threads)
        for threads in {cpus, plan.threads}
    }
    ways = [(tile, threads) for tile in TILES for threads in sorted(by_threads)]
    bare: dict[tuple[int, int], list[float]] = {way: [] for way in ways}
    runs: list[float] = []
    for _ in range(options.rounds):
        for tile, threads in ways:
            model = by_threads[threads]
            lanes = cpus // threads
            side = model.field.input_for(tile)
            rate = prediction_rate(model, plan, pixels[:side, :side], lanes, options.seconds)
            bare[tile, threads].append(rate / 1e6)
        runs.append(run_rate(plan, work / "overhead.tilseg"))
    medians = {way: statistics.median(rates) for way, rates in bare.items()}
    best = max(medians, key=lambda way: medians[way])
    kept = statistics.median(runs) / medians[best]
    rows = [
        (f"bare, tile {tile}, {cpus // threads} at once", f"{rate:.3f}")
        for (tile, threads), rate in medians.items()
    ]
    tile = " x ".join(map(str, plan.grid.tile))
    rows.append((f"run, tile {tile}, {plan.lanes} at once", f"{statistics.median(runs):.3f}"))
    show(
        f"Overhead: {options.megapixels} Mpix, width {options.width}, {options.precision}, zarr only"
        + (", regions" if options.regions else "")
        + (", an image with coarse levels" if options.pyramid else ""),
        ("what", "Mpix/s"),
        rows,
        kept=round(kept, 4),
        rounds=options.rounds,
    )
    print(f"\nkept of the best bare rate (tile {best[0]}, {cpus // best[1]} at once): {kept:.3f}")
    if options.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
