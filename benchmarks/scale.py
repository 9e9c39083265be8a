"""Whether a run's time and memory follow its blocks, and not the image.

    python benchmarks/scale.py free [--gigapixels 0.1 1 10] [--outputs zarr tif]
    python benchmarks/scale.py real [--gigapixels 0.1 0.4] [--width 4]
    python benchmarks/scale.py blocks [--blocks 1000000] [--scheduled 500000]

free: a network that costs nothing, which answers every tile with the same drawing, so that what is left
is reading, measuring, storing and finishing. real: a U-Net. Both in fresh processes, with one tile for
all sizes: left to itself each image gets the one that wastes least at its edges. Segmenting counts from
the moment at which the network is loaded; CPU seconds are of all threads of the process. What a further
block takes is the difference between two sizes by the blocks between them.

blocks: a block of one tile of 16 x 16 pixels, which nobody computes or stores: real planning, Dask,
journal and lock, and a resume that believes every block. Three starts, each in a fresh process: for the
first blocks, for the last ones, and one that finds all of them done. Dask has `--scheduled` of them in each
of the first two; what lies between is noted in the journal alone.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import endless_image, model_file, show

TILE = 1024
BLOCK = 16


def clock() -> tuple[float, float]:
    """Seconds of the wall and of this process's CPU time."""
    return time.perf_counter(), time.process_time()


def peak() -> int:
    """Megabytes this process has had at most; what it was forked from counts not."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return round(int(line.split()[1]) * 1024 / 1e6)
    raise AssertionError


def in_fresh_process(work: Callable[..., Any], *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


class Phases:
    """Wall and CPU seconds by phase, from what a run tells of its progress."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))
        self.last = np.array(clock())

    def note(self, phase: str) -> None:
        now = np.array(clock())
        self.spent[phase] += now - self.last
        self.last = now


def drawing(halo: int) -> Callable[..., Any]:
    """In place of a network's `predict`: a disc, and a line from tile to tile."""
    from tilseg.model import Prediction

    def predict(batch: np.ndarray, *_: Any, **__: Any) -> Prediction:
        rows, cols = (side - 2 * halo for side in batch.shape[1:3])
        if (rows, cols) not in drawn:
            y, x = np.ogrid[:rows, :cols]
            disc = (y - 200) ** 2 + (x - 500) ** 2 < 150**2
            drawn[rows, cols] = (disc | (abs(y - 512) < 3)).astype(np.uint8)[None]
        return Prediction(drawn[rows, cols], np.ones(1, np.bool_))

    drawn: dict[tuple[int, int], np.ndarray] = {}
    return predict


def one_run(
    image: Path, file: Path, output: Path, outputs: tuple[str, ...], free: bool
) -> dict[str, Any]:
    """A run from the image to its result, and what it took."""
    import tilseg
    from tilseg import infer

    load, phases = infer._network, Phases()

    def network(plan: Any) -> Any:
        model = load(plan)
        if free:
            model.predict = drawing(model.field.halo)
        phases.note("load")
        return model

    infer._network = network
    source = tilseg.open_source(image)
    plan = tilseg.make_plan(source, tilseg.load_model(file), tile=TILE, memory="2GB", threads=1)
    phases.note("plan")
    most = 0

    def progress(step: Any) -> None:
        nonlocal most
        phases.note(step.phase)
        most = peak() if step.phase == "predict" else most

    tilseg.run(plan, output, outputs=outputs, progress=progress)
    phases.note("publish")
    spent = {name: tuple(map(float, both)) for name, both in phases.spent.items()}
    after = [both for name, both in spent.items() if name not in BEFORE]
    return {
        "blocks": len(plan.grid),
        "predict": spent["predict"],
        "finish": tuple(map(sum, zip(*after, strict=True))),
        "peak of blocks": most,
        "peak": peak(),
        "spent": spent,
    }


def plan_seconds(image: Path, file: Path) -> tuple[float, float]:
    """Wall and CPU seconds of `tilseg plan`, start-up included."""
    before, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "tilseg", "plan", str(image), "--model", str(file)]
    subprocess.run(command, check=True, capture_output=True)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return time.perf_counter() - before, cpu


# What a run does after its last block: all phases but these.
BEFORE = {"load", "plan", "predict"}


def sizes(asked: argparse.Namespace, work: Path) -> None:
    """Runs over images of growing size, one table row each."""
    free = asked.what == "free"
    width = 4 if free else asked.width
    file = in_fresh_process(_save_model, work / "model.safetensors", width)
    rows, runs = [], []
    for gigapixels in asked.gigapixels or ([0.1, 1, 10] if free else [0.1, 0.4]):
        side = math.isqrt(round(gigapixels * 1e9))
        image = endless_image(work / f"{gigapixels}.tif", side + 13, side - 11)
        plan = plan_seconds(image, file)
        output = work / "scale.tilseg"
        run = in_fresh_process(one_run, image, file, output, tuple(asked.outputs), free)
        shutil.rmtree(output)
        image.unlink()
        runs.append(run)
        further = "" if len(runs) == 1 else "{:.0f} + {:.0f}".format(*further_block(*runs[-2:]))
        row = [gigapixels, run["blocks"], "{:.1f} / {:.1f}".format(*plan)]
        row += ["{:.1f} / {:.1f}".format(*run[name]) for name in ("predict", "finish")]
        rows.append([*row, further, run["peak of blocks"], run["peak"]])
        print(rows[-1], {name: f"{a:.1f} / {b:.1f}" for name, (a, b) in run["spent"].items()})
        sys.stdout.flush()
    network = "a network that costs nothing" if free else f"U-Net of width {width}"
    heads = ["gigapixels", "blocks", "plan, s", "segmenting, s", "finishing, s"]
    show(
        f"Scale: {network}, {' and '.join(asked.outputs)}",
        [*heads, "a further block, CPU ms", "peak of blocks, MB", "peak, MB"],
        rows,
        seconds="wall / CPU",
        peaks=max(run["peak"] for run in runs) / min(run["peak"] for run in runs),
    )


def further_block(smaller: dict[str, Any], larger: dict[str, Any]) -> tuple[float, float]:
    """CPU milliseconds of segmenting and finishing one more block, of what two sizes took: all that
    a run takes once is in both."""
    more = larger["blocks"] - smaller["blocks"]
    segmenting, finishing = (
        (larger[name][1] - smaller[name][1]) / more * 1000 for name in ("predict", "finish")
    )
    return segmenting, finishing


def _save_model(path: Path, width: int) -> Path:
    return model_file(path, width=width)


def record(index: int) -> Any:
    """What a block of two classes reports."""
    from tilseg.journal import BlockRecord

    crcs = (4_000_000_000 - index, 3_000_000_000 - index)
    return BlockRecord(index, crcs, ((0, 131), (1, 125)), (0.01 / 3, 0.4 / 3, 0.02 / 3))


def note(path: Path, until: int) -> tuple[float, float]:
    """Note all blocks before `until`, as a driver does; wall and CPU seconds."""
    from tilseg.journal import Journal

    journal, began = Journal(path), np.array(clock())
    journal.begin_driver()
    for index in range(until):
        if index not in journal.records:
            journal.begin(index)
            journal.append(record(index))
    journal.close()
    wall, cpu = (np.array(clock()) - began).tolist()
    return wall, cpu


def one_start(image: Path, file: Path, output: Path, until: int) -> dict[str, Any]:
    """One start of a run of tiny blocks, up to about `until` of them done in all."""
    import tilseg
    from tilseg.errors import Stopped
    from tilseg.plan import TileGrid
    from tilseg.schedule import stream
    from tilseg.stores import Stores
    from tilseg.verbs.stages import Start
    from tilseg.verbs.terms import RunOptions
    from tilseg.window import Size
    from tilseg.workspace import Workspace

    def compute(_: object, index: int, _mask_bad: bool) -> Any:
        return record(index)

    stream.compute_block = compute
    Stores.holds = lambda *_: True  # type: ignore[method-assign]
    phases = Phases()
    source = tilseg.open_source(image)
    plan = tilseg.make_plan(source, tilseg.load_model(file), tile=BLOCK, threads=1, regions=None)
    grid = TileGrid(plan.grid.shape, plan.grid.field, Size(BLOCK, BLOCK), Size(1, 1))
    phases.note("plan")
    space = Workspace(output)

    found: Mapping[int, Any] = {}
    start = Start(space, replace(plan, grid=grid), RunOptions(), stop=lambda: len(found) >= until)
    with start, space.lock.held():
        start.look()
        start.begin()
        phases.note("begin")
        assert start.journal is not None
        kept, found = len(start.journal.records), start.journal.records
        with suppress(Stopped):
            start.predict()
        phases.note("predict")
        start.leave()
        size = space.journal().stat().st_size
        return {
            "kept": kept,
            "done": len(found),
            "spent": {name: tuple(map(float, both)) for name, both in phases.spent.items()},
            "peak": peak(),
            "journal": size,
        }


def many_blocks(asked: argparse.Namespace, work: Path) -> None:
    """Three starts over a million blocks, one table row each."""
    file = in_fresh_process(_save_model, work / "model.safetensors", 4)
    side = math.isqrt(asked.blocks)
    total, output = side**2, work / "blocks.tilseg"
    image = endless_image(work / "blocks.tif", side * BLOCK, side * BLOCK)
    ends = asked.scheduled or total // 2
    rows, noted = [], (0.0, 0.0)
    for until in (ends, total, total):
        start = in_fresh_process(one_start, image, file, output, until)
        spent, computed = start["spent"], start["done"] - start["kept"]
        each = np.array(spent["predict"]) / max(computed, 1) * 1000
        row = [f"{start['kept']:,}", f"{computed:,}"]
        row += ["{:.1f} / {:.1f}".format(*spent[name]) for name in ("plan", "begin", "predict")]
        row.append("{:.2f} / {:.2f}".format(*each) if computed else "")
        rows.append([*row, round(start["journal"] / 1e6), start["peak"]])
        print(rows[-1], flush=True)
        if until == ends and 2 * ends < total:
            journal = work / ".blocks.tilseg.partial" / "journal-0.jsonl"
            noted = in_fresh_process(note, journal, total - ends)
            print("noted: {:.1f} / {:.1f} s".format(*noted), flush=True)
    heads = ["found", "computed", "plan, s", "begin, s", "blocks, s", "a block, ms"]
    show(
        f"Scale: {total:,} blocks, {2 * ends:,} of them through Dask",
        [*heads, "journal, MB", "peak, MB"],
        rows,
        seconds="wall / CPU",
        noted=noted,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["free", "real", "blocks"])
    parser.add_argument("--gigapixels", type=float, nargs="+")
    parser.add_argument("--outputs", nargs="+", default=["zarr", "tif"])
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=1_000_000)
    parser.add_argument("--scheduled", type=int)
    parser.add_argument("--work", type=Path)
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    (many_blocks if asked.what == "blocks" else sizes)(asked, work)
    if asked.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
