"""How fast regions are measured, and in how much memory.

    python benchmarks/regions.py speed [--size 4096]
        labels and properties of a made mask and image: tilseg in blocks of 2048 against
        scikit-image on the whole; one process each, time without imports and making the image.
    python benchmarks/regions.py inside [--megapixels 64] [--width 16] [--rounds 3]
        what regions cost a run: runs with and without them by turns, least of all rounds; the
        shares are of the time without. CPU time is what to look at on a machine that others use.
    python benchmarks/regions.py mask FILE [--connectivity 1|2]
        the regions of a mask on disk, read by blocks, with areas on the ellipsoid when it is
        a grid of longitude and latitude.

Prints a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.window import Size

BLOCK = Size(2048, 2048)
COLUMNS = (
    *("label", "area", "bbox", "centroid", "axis_major_length", "axis_minor_length"),
    *("eccentricity", "orientation", "perimeter", "perimeter_crofton", "euler_number"),
    *("equivalent_diameter_area", "extent"),
    *("intensity_mean", "intensity_min", "intensity_max", "intensity_std"),
)


def make(size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A mask with two classes in round and ragged regions, and an image of three bands."""
    from scipy import ndimage

    rng = np.random.default_rng(20)
    noise = rng.standard_normal((size, size), dtype=np.float32)
    fine = ndimage.gaussian_filter(noise, 3.5)
    coarse = ndimage.gaussian_filter(noise, 60)
    mask = np.where(fine > 0.7 * fine.std(), np.where(coarse > 0, 1, 2), 0).astype(np.uint8)
    return mask, rng.integers(0, 256, (size, size, 3), dtype=np.uint8)


def run_tilseg(mask: NDArray[np.uint8], image: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    from tilseg.regions import BlockGrid, measure_block, merge

    grid = BlockGrid(Size(*mask.shape), BLOCK)
    tables = (
        measure_block(mask[w.slices], w, shape=grid.shape, image=image[w.slices]) for w in grid
    )
    return merge(tables, grid).columns


def run_skimage(mask: NDArray[np.uint8], image: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    from skimage.measure import label, regionprops_table

    return dict(regionprops_table(label(mask), image, properties=COLUMNS))


RUNNERS = {"tilseg": run_tilseg, "scikit-image": run_skimage}


def one(name: str, size: int, out: Path) -> None:
    """Run one contender in this process; leave its columns and figures in `out`."""
    mask, image = make(size)
    RUNNERS[name](mask[:64, :64], image[:64, :64])  # imports
    start, busy = time.perf_counter(), time.process_time()
    columns = RUNNERS[name](mask, image)
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    np.savez(out, seconds=seconds, cpu_seconds=busy, **columns)


def speed(size: int) -> dict[str, Any]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in RUNNERS:
            out = Path(folder, f"{name}.npz")
            command = [sys.executable, __file__, "one", name, str(size), str(out)]
            subprocess.run(command, check=True)
            with np.load(out) as columns:
                found[name] = dict(columns)
    ours, theirs = found["tilseg"], found["scikit-image"]
    names = [name for name in theirs if name not in ("seconds", "cpu_seconds")]
    report: dict[str, Any] = {
        "pixels": size * size,
        "regions": len(ours["label"]),
        "seconds": {name: round(float(c["seconds"]), 3) for name, c in found.items()},
        "cpu_seconds": {name: round(float(c["cpu_seconds"]), 3) for name, c in found.items()},
        "times_faster": round(float(theirs["seconds"] / ours["seconds"]), 1),
        "times_less_cpu": round(float(theirs["cpu_seconds"] / ours["cpu_seconds"]), 1),
        "largest_difference": {n: d for n in names if (d := _difference(n, ours[n], theirs[n]))},
    }
    for name in RUNNERS:
        wall, busy = report["seconds"][name], report["cpu_seconds"][name]
        rate = size * size / 1e6 / wall
        print(f"{name:14s}{wall:8.2f} s {busy:8.2f} s CPU {rate:8.2f} Mpix/s")
    print(f"{report['regions']} regions, {report['times_faster']} times faster")
    return report


def _difference(name: str, ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Largest difference, relative where values are above 1; orientations are axes."""
    apart = np.abs(ours - theirs)
    if name == "orientation":
        apart = np.abs(np.sin(apart))
    return float(np.max(apart / np.maximum(np.abs(theirs), 1.0)))


def inside(megapixels: int, width: int, rounds: int) -> dict[str, Any]:
    import math
    import shutil

    from common import big_image, model_file

    import tilseg

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        side = math.isqrt(megapixels * 10**6)
        source = tilseg.open_source(big_image(folder / "image.tif", side, side))
        model = tilseg.load_model(model_file(folder / "model.safetensors", width=width))
        options = {"with": tilseg.RegionOptions(), "without": None}
        wall: dict[str, list[float]] = {which: [] for which in options}
        busy: dict[str, list[float]] = {which: [] for which in options}
        regions = 0
        for _ in range(rounds):
            for which, chosen in options.items():
                plan = tilseg.make_plan(source, model, regions=chosen)
                output = folder / f"{which}.tilseg"
                start, cpu = time.perf_counter(), time.process_time()
                report = tilseg.run(plan, output, outputs=("zarr",))
                wall[which].append(time.perf_counter() - start)
                busy[which].append(time.process_time() - cpu)
                if chosen:
                    regions = sum(info["regions"] or 0 for info in report.summary["classes"])
                shutil.rmtree(output)
    share = {
        clock: min(times["with"]) / min(times["without"]) - 1
        for clock, times in {"wall": wall, "cpu": busy}.items()
    }
    print(
        f"{regions} regions; wall {share['wall']:+.1%}, CPU {share['cpu']:+.1%} of the run without"
    )
    return {"regions": regions, "share": share, "wall": wall, "cpu": busy}


def measure_mask(path: Path, connectivity: int) -> dict[str, Any]:
    import rasterio
    import rasterio.windows

    from tilseg.georef import Georef
    from tilseg.regions import BlockGrid, measure_block, merge
    from tilseg.regions.units import world_units

    start = time.perf_counter()
    with rasterio.open(path) as file:
        grid = BlockGrid(Size(file.height, file.width), BLOCK)
        georef = Georef(file.crs.to_wkt(), tuple(file.transform)[:6])
        world = world_units(georef, grid.shape)
        assert world is not None
        row_pixels = np.zeros(grid.shape.rows, dtype=np.int64)

        def tables() -> Any:
            for window in grid:
                labels = file.read(1, window=rasterio.windows.Window(*_xywh(window)))
                row_pixels[window.slices[0]] += np.count_nonzero(labels, axis=1)
                yield measure_block(
                    labels,
                    window,
                    shape=grid.shape,
                    connectivity=connectivity,
                    weights=world.weights(window),
                )

        regions = merge(tables(), grid)
    seconds = time.perf_counter() - start
    area = world.describe(regions).columns["area_m2"]
    report = {
        "shape": list(grid.shape),
        "connectivity": connectivity,
        "regions": len(regions),
        "pixels": int(regions.columns["area"].sum()),
        "single_pixels": int((regions.columns["area"] == 1).sum()),
        "largest": sorted(regions.columns["area"].tolist())[-5:],
        "euler_sum": int(regions.columns["euler_number"].sum()),
        "area_km2": float(area.sum()) / 1e6,
        "seconds": round(seconds, 1),
        "peak_mb": round(peak_bytes() / 1e6),
    }
    if world.method == "rows":
        report |= compare_rows(world, georef, row_pixels, float(area.sum()))
    for name, value in report.items():
        print(f"{name:32s}{value}")
    return report


def compare_rows(
    world: Any, georef: Any, row_pixels: NDArray[np.int64], area: float
) -> dict[str, float]:
    """The sum of all pixels' areas against the regions', and against Web Mercator's metres."""
    from tilseg.window import Window

    rows = np.arange(len(row_pixels))
    true = world.weights(Window(0, 0, len(rows), 1)) * row_pixels
    edges = np.radians(georef.affine.f + georef.affine.e * np.arange(len(rows) + 1))
    inside = np.abs(edges[:-1] + edges[1:]) / 2 < np.radians(85)
    northing = np.arcsinh(np.tan(np.clip(edges, -1.5, 1.5)))
    cell = 6378137.0**2 * np.radians(georef.affine.a) * np.abs(np.diff(northing))
    return {
        "regions_over_rows_minus_1": area / float(true.sum()) - 1,
        "web_mercator_over_true_to_85": float(
            (cell * row_pixels)[inside].sum() / true[inside].sum()
        ),
    }


def _xywh(window: Any) -> tuple[int, int, int, int]:
    return window.col, window.row, window.cols, window.rows


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("speed")
    verb.add_argument("--size", type=int, default=4096)
    verb = verbs.add_parser("mask")
    verb.add_argument("file", type=Path)
    verb.add_argument("--connectivity", type=int, choices=(1, 2), default=2)
    verb = verbs.add_parser("inside")
    verb.add_argument("--megapixels", type=int, default=64)
    verb.add_argument("--width", type=int, default=16)
    verb.add_argument("--rounds", type=int, default=3)
    verb = verbs.add_parser("one")
    verb.add_argument("name", choices=RUNNERS)
    verb.add_argument("size", type=int)
    verb.add_argument("out", type=Path)
    given = parser.parse_args()
    if given.verb == "one":
        one(given.name, given.size, given.out)
    elif given.verb == "inside":
        print(json.dumps(inside(given.megapixels, given.width, given.rounds)))
    elif given.verb == "speed":
        print(json.dumps(speed(given.size)))
    else:
        print(json.dumps(measure_mask(given.file, given.connectivity)))


if __name__ == "__main__":
    main()
