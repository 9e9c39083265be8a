"""`tilseg view` on a large pyramid: the first picture, tiles, memory, regions under the pointer.

    python benchmarks/view.py PYRAMID --work FOLDER

The result is made up: one block of 2048 x 2048 pixels full of nuclei, some of which touch, repeated over
the mask, and its table of regions with it. The server is the command, in a process of its own.
"""

from __future__ import annotations

import argparse
import http.client
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
from common import show
from pyarrow import parquet

import tilseg
from tilseg.durable import seal
from tilseg.fingerprint import plan_to_json
from tilseg.plan import RegionOptions
from tilseg.sinks.shards import BlockArray
from tilseg.sinks.zarr import MaskStore
from tilseg.view.grid import TILE, ViewGrid
from tilseg.window import Size

SIDE = 2048
SPACING = 87
CONNECTIONS = 6  # of a browser to one server
TILES, POINTS = 2000, 1000


def nuclei() -> np.ndarray:
    """One block: disks on a jittered grid, none over its border."""
    rng = np.random.default_rng(0)
    block = np.zeros((SIDE, SIDE), np.uint8)
    rows, cols = np.ogrid[:SIDE, :SIDE]
    for row in range(SPACING // 2, SIDE - SPACING // 2, SPACING):
        for col in range(SPACING // 2, SIDE - SPACING // 2, SPACING):
            down, across = rng.integers(-30, 31, 2)
            radius = rng.integers(8, 15)
            block[(rows - row - down) ** 2 + (cols - col - across) ** 2 <= radius**2] = 1
    return block


def make_result(image: Path, output: Path) -> int:
    """A result of `image` at `output`; returns its number of regions."""
    source, model = tilseg.open_source(image), tilseg.load_model("nuclei")
    plan = tilseg.make_plan(source, model)
    georef, identity, shape = source.georef, source.identity(), source.shape
    source.close()
    block = nuclei()
    plan = replace(plan, grid=replace(plan.grid, shape=shape), factors=None, level=0)
    output.mkdir(parents=True)
    array = BlockArray.create(output / "mask.zarr" / "0", shape, Size(SIDE, SIDE))
    whole = None
    for window in array.windows():
        target = array.path / "c" / str(window.row // SIDE) / str(window.col // SIDE)
        if whole is not None and window.size == (SIDE, SIDE):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(whole, target)
            continue
        array.commit(window, block[: window.rows, : window.cols])
        whole = whole or target
    MaskStore.open(output / "mask.zarr").finish(
        name=image.stem, classes=model.card.classes, georef=georef, background=0
    )
    count = write_regions(block, shape, plan.regions or RegionOptions(), output)
    summary = {"area_unit": None, "classes": [], "blocks": {}}
    receipt = {
        "plan": plan_to_json(plan),
        "model": model.card.model_dump(mode="json"),
        "fingerprint": {"input": identity},
        "bad_tiles": [],
        "summary": summary,
    }
    (output / "run.json").write_text(seal(receipt))
    return count


def write_regions(block: np.ndarray, shape: Size, options: RegionOptions, output: Path) -> int:
    """The table of the whole mask, from that of one block; blocks cut by the edge are left out."""
    own = tilseg.measure(block, regions=options, background=0).columns
    counts = shape.rows // SIDE, shape.cols // SIDE
    rows, cols = (each.ravel() * SIDE for each in np.indices(counts))
    table = {name: np.tile(values, len(rows)) for name, values in own.items()}
    for axis, start in enumerate((rows, cols)):
        more = np.repeat(start, len(own["label"]))
        for name in (f"bbox-{axis}", f"bbox-{axis + 2}", f"centroid-{axis}"):
            table[name] = table[name] + more
    order = np.lexsort((table["bbox-1"], table["bbox-0"]))
    table = {name: values[order] for name, values in table.items()}
    table["label"] = np.arange(1, len(order) + 1)
    parquet.write_table(
        pa.table(table), output / "regions.parquet", compression="zstd", row_group_size=65_536
    )
    return len(order)


class Client:
    """One connection that is kept, as a browser's."""

    def __init__(self, address: str) -> None:
        host, _, self.first = address.removeprefix("http://").partition("/")
        self._connection = http.client.HTTPConnection(host)
        self._connection.request("GET", f"/{self.first}")
        answer = self._connection.getresponse()
        answer.read()
        self._headers = {"Cookie": (answer.getheader("Set-Cookie") or "").split(";")[0]}

    def get(self, path: str) -> bytes:
        self._connection.request("GET", path, headers=self._headers)
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (path, body)
        return body

    def seconds(self, path: str) -> float:
        began = time.perf_counter()
        self.get(path)
        return time.perf_counter() - began


@contextmanager
def serving(output: Path) -> Iterator[tuple[str, float, psutil.Process]]:
    """Address of the running command, the seconds until it was printed, and the process."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "tilseg", "view", str(output), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        yield address, time.perf_counter() - began, psutil.Process(process.pid)
        process.terminate()


def tiles(size: Size, zoom: int) -> list[str]:
    """Addresses of all tiles of both layers of a zoom."""
    rows, cols = (range(-(-side // TILE)) for side in size)
    layers = ("image", "mask")
    return [
        f"/tiles/{name}/{zoom}/{r}_{c}.png?show=1" for name in layers for r in rows for c in cols
    ]


def random_tiles(grid: ViewGrid, count: int) -> list[str]:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(count):
        zoom = int(rng.integers(grid.zooms))
        row, col = (int(rng.integers(-(-side // TILE))) for side in grid.size(zoom))
        found.append(f"/tiles/{rng.choice(['image', 'mask'])}/{zoom}/{row}_{col}.png?show=1")
    return found


def at_once(clients: Sequence[Client], paths: Sequence[str]) -> list[float]:
    """Seconds of each, asked for by all clients together."""

    def one(number: int) -> list[float]:
        return [clients[number].seconds(path) for path in paths[number :: len(clients)]]

    with ThreadPoolExecutor(len(clients)) as pool:
        return [seconds for part in pool.map(one, range(len(clients))) for seconds in part]


def first_picture(address: str, grid: ViewGrid) -> float:
    """Seconds until a browser of 1280 x 800 has what it shows first: the whole image."""
    began = time.perf_counter()
    clients = [Client(address) for _ in range(CONNECTIONS)]
    clients[0].get("/about.json")
    for zoom in range(grid.zooms - 1, -1, -1):
        at_once(clients, tiles(grid.size(zoom), zoom))
        if grid.size(zoom).cols >= 1280 or grid.size(zoom).rows >= 800:
            break
    return time.perf_counter() - began


class Clock:
    """Rows of a table: what answers take, and what they cost the server's processors."""

    def __init__(self, process: psutil.Process) -> None:
        self.rows: list[list[str]] = []
        self._process = process
        self._spent = self._cpu()

    def _cpu(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def add(self, name: str, seconds: Sequence[float]) -> None:
        """What took so long since the last row."""
        spent, self._spent = self._spent, self._cpu()
        walls = np.percentile(np.array(seconds) * 1e3, [50, 95, 100])
        each = (self._spent - spent) * 1e3 / len(seconds)
        self.rows.append([name, *(f"{value:.1f}" for value in [*walls, each])])


def measure(address: str, process: psutil.Process, grid: ViewGrid, centres: np.ndarray) -> None:
    """Print what answers take; `centres` of regions, (regions, 2)."""
    clock = Clock(process)
    clock.add("first picture, from its address", [first_picture(address, grid)])
    clock.add("the same again", [first_picture(address, grid)])
    client, wanted = Client(address), random_tiles(grid, TILES)
    alone, memory = [], []
    for number, path in enumerate(wanted):
        alone.append(client.seconds(path))
        if number % (TILES // 8) == 0:
            memory.append(process.memory_info().rss / 1e6)
    clock.add(f"{TILES:,} random tiles, one by one", alone)
    clients = [Client(address) for _ in range(CONNECTIONS)]
    clock.add(f"the same, {CONNECTIONS} at once", at_once(clients, wanted))
    rng = np.random.default_rng(2)
    points = centres[rng.integers(len(centres), size=POINTS)]
    points = abs(points + rng.integers(-6, 7, points.shape))
    pointed = [client.seconds(f"/at.json?row={row:.1f}&col={col:.1f}") for row, col in points]
    clock.add(f"pointer, {len(centres):,} regions", pointed)
    orders = [client.seconds(f"/regions.json?by={by}&down=1") for by in ("area", "eccentricity")]
    clock.add("table in a new order", orders)
    starts = rng.integers(len(centres), size=50)
    pages = [client.seconds(f"/regions.json?by=area&start={start}") for start in starts]
    clock.add("another page of it", pages)
    memory.append(process.memory_info().rss / 1e6)
    title = f"View of {grid.shape.area / 1e9:.1f} gigapixels, ms"
    heads = ["", "median", "p95", "most", "CPU each"]
    show(title, heads, clock.rows, rss_mb=[round(each) for each in memory])
    print("RSS, MB, every eighth of the tiles and at the end:", *(f"{each:.0f}" for each in memory))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pyramid", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    output = options.work / "view.tilseg"
    if not output.exists():
        make_result(options.pyramid, output)
    source = tilseg.open_source(options.pyramid)
    grid = ViewGrid(source.shape)
    source.close()
    table = parquet.read_table(output / "regions.parquet", columns=["centroid-0", "centroid-1"])
    centres = np.stack([table.column(axis).to_numpy() for axis in (0, 1)], axis=1)
    with serving(output) as (address, started, process):
        print(f"from the command to its address: {started:.2f} s")
        measure(address, process, grid, centres)


if __name__ == "__main__":
    main()
