"""How fast outlines of regions are traced and written, and in how much memory.

    python benchmarks/polygons.py million [--side 1000] [--only FORMAT]
        side x side made nuclei of 12 x 12 pixels each, three classes, measured and then written
        in each format; one process each. FlatGeobuf and GeoPackage need pyogrio.
    python benchmarks/polygons.py mask FILE [--only FORMAT] [--simplify PIXELS]
        the same of a mask on disk; and whether every polygon is valid and has its pixels' area.

Times are of this process's CPU and of the clock; "tracing" and "writing" include reading back.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import show
from numpy.typing import NDArray

from tilseg.georef import Georef
from tilseg.plan import RegionOptions
from tilseg.polygons.files import write_polygons
from tilseg.polygons.outlines import Outlines, batches
from tilseg.polygons.placing import Place
from tilseg.regions import BlockGrid, RegionTable, label_blocks, measure_block, merge
from tilseg.window import Size, Window

BLOCK = Size(2048, 2048)
CELL = 12
FORMATS = ("none", "tracing", "geojson", "geoparquet", "gpkg", "fgb")
Read = Callable[[Window], NDArray[np.uint8]]


def nuclei(side: int) -> tuple[Read, Size]:
    """Blobs in cells of a lattice, each of 64 shapes by its place; any window by itself."""
    from scipy import ndimage

    rng = np.random.default_rng(7)
    row, col = np.indices((CELL, CELL)) - (CELL - 1) / 2
    shapes = np.zeros((64, CELL, CELL), np.uint8)
    for number, shape in enumerate(shapes):
        rough = ndimage.gaussian_filter(rng.standard_normal((CELL, CELL)), 2) * 4
        blob, _ = ndimage.label(np.hypot(row, col * rng.uniform(0.8, 1.2)) + rough < 4.2)
        inside = (blob == blob[CELL // 2, CELL // 2]) & (np.abs(row) < 5) & (np.abs(col) < 5)
        shape[inside] = 1 + number % 3
        shape[CELL // 2, CELL // 2] = 1 + number % 3

    def read(window: Window) -> NDArray[np.uint8]:
        rows = np.arange(window.row, window.row_stop)
        cols = np.arange(window.col, window.col_stop)
        which = (rows[:, None] // CELL * 7919 + cols // CELL * 104729) // 13 % 64
        return shapes[which, rows[:, None] % CELL, cols % CELL]

    return read, Size(side * CELL, side * CELL)


def on_disk(path: Path) -> tuple[Read, Size, Georef]:
    import rasterio
    import rasterio.windows

    import tilseg.gdal_env  # noqa: F401

    file = rasterio.open(path)

    def read(window: Window) -> NDArray[np.uint8]:
        place = rasterio.windows.Window(window.col, window.row, window.cols, window.rows)
        return np.asarray(file.read(1, window=place))

    georef = Georef(file.crs.to_wkt(), tuple(file.transform)[:6])
    return read, Size(file.height, file.width), georef


def one(read: Read, shape: Size, georef: Georef, format: str, simplify: float) -> dict[str, Any]:
    """Measure a mask, then trace it or write one format."""
    grid = BlockGrid(shape, BLOCK)
    began = time.perf_counter(), time.process_time()
    regions = merge((measure_block(read(w), w, shape=shape) for w in grid), grid)
    measured = time.perf_counter(), time.process_time()
    found: dict[str, Any] = {"regions": len(regions), "measure_seconds": measured[0] - began[0]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "result")
        folder.mkdir()
        blocks = label_blocks(read, regions)
        if format == "tracing":
            found |= trace(regions, blocks, folder)
        elif format != "none":
            options = RegionOptions(polygons=(format,), simplify=simplify)  # type: ignore[arg-type]
            write_polygons(regions, blocks, options, Place(georef, shape), (), folder)
        found["megabytes"] = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    found["seconds"] = time.perf_counter() - measured[0]
    found["cpu_seconds"] = time.process_time() - measured[1]
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return found


def trace(regions: RegionTable, blocks: Any, folder: Path) -> dict[str, Any]:
    """All polygons, made and looked at, but not written."""
    import shapely

    invalid, area = 0, np.zeros(len(regions), np.int64)
    with Outlines(regions.grid.shape, folder) as outlines:
        outlines.trace(blocks, len(regions))
        corners = outlines.corners()
        for first, last in batches(corners):
            polygons, area[first:last] = outlines.polygons(np.arange(first, last) + 1)
            invalid += int((~shapely.is_valid(polygons)).sum())
    wrong = int((area != regions.columns["area"]).sum())
    return {"corners": int(corners.sum()), "invalid": invalid, "wrong_areas": wrong}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("million", "mask"))
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--side", type=int, default=1000)
    parser.add_argument("--simplify", type=float, default=0.0)
    parser.add_argument("--only", choices=FORMATS)
    parser.add_argument("--child", action="store_true")
    given = parser.parse_args()
    if given.child:
        place = Georef()
        if given.what == "mask":
            read, shape, place = on_disk(given.file)
        else:
            read, shape = nuclei(given.side)
        print(json.dumps(one(read, shape, place, given.only, given.simplify)))
        return
    found = {}
    for format in (given.only,) if given.only else FORMATS:
        words = [*sys.argv[1:], "--child"]
        words += [] if given.only else ["--only", format]
        done = subprocess.run(
            [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True
        )
        found[format] = json.loads(done.stdout)
    names = ("seconds", "cpu_seconds", "peak_mb", "megabytes")
    rows = [(f, v["regions"], *(f"{v[n]:,.1f}" for n in names)) for f, v in found.items()]
    show(f"Polygons of {given.file or 'made nuclei'}", ("format", "regions", *names), rows, **found)


if __name__ == "__main__":
    main()
