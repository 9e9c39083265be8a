"""SIGKILL at any moment, and damage on top: every run ends in the bytes of the undisturbed one.

    python benchmarks/chaos/kill_loop.py [--kills 200] [--runs 20] [--worker-kills 30] [--seed 0]

Half of the kills come at a random time, half when the run is near its end (exports, receipt,
renames). After half of the kills the unfinished run is damaged: torn, zeroed or deleted shards,
torn or flipped journal, stray files, torn metadata. A third of the runs replace an older result
of another model. After each kill what bears the final name, if anything, must pass `verify` and
be the old result or the new one. Then runs with worker processes, whose workers are killed.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import psutil
from desk import CASES, Command, Commands, content, damage, leftovers, opened, show

import tilseg


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--runs", type=int, default=20)
    options.add_argument("--worker-kills", type=int, default=30)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    rng = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as place, opened(Path(place)) as commands:
        _kill_drivers(commands, rng, asked.kills, asked.runs)
        if asked.worker_kills:
            _kill_workers(commands, rng, asked.worker_kills)


def _kill_drivers(commands: Commands, rng: random.Random, kills: int, runs: int) -> None:
    folder = commands.folder
    wholes = [content(folder / f"whole{n}{case.suffix}") for n, case in enumerate(CASES)]
    count: Counter[str] = Counter()
    damaged: Counter[str] = Counter()
    while count["kills"] < kills or count["runs"] < runs:
        number = count["runs"] % len(CASES)
        case, name = CASES[number], f"run{count['runs']}"
        old = None
        extra: tuple[str, ...] = ()
        if count["runs"] % 3 == 0:
            other = replace(case, model="other.safetensors")
            assert commands.run(*other.command(name)).poll() == 0
            old, extra = content(folder / f"{name}{case.suffix}"), ("--overwrite",)
        # Of now: on a machine that is busy with other things no run gets far in a fixed time.
        began = time.perf_counter()
        assert commands.run(*case.command("timed", "--overwrite")).poll() == 0
        seconds = time.perf_counter() - began
        while True:
            command = commands.start(*case.command(name, *extra))
            if not _killed_somewhere(command, folder, f"{name}{case.suffix}", seconds, rng):
                assert command.poll() == 0, command.stderr
                break
            count["kills"] += 1
            found = _look(folder / f"{name}{case.suffix}", old, wholes[number])
            count[found] += 1
            partial = folder / f".{name}{case.suffix}.partial"
            if rng.random() < 0.5 and partial.exists():
                damaged[damage(partial, rng)] += 1
        count["runs"] += 1
        count["identical"] += content(folder / f"{name}{case.suffix}") == wholes[number]
        count["left over"] += len(leftovers(folder, f"{name}{case.suffix}"))
    show(
        "Kill loop: drivers",
        ("runs", "SIGKILLs", "identical in the end", "final name incomplete", "files left over"),
        [
            (
                count["runs"],
                count["kills"],
                count["identical"],
                count["incomplete"],
                count["left over"],
            )
        ],
        damage=dict(damaged),
        final_name={name: count[name] for name in ("not there", "old", "new", "incomplete")},
    )
    assert count["identical"] == count["runs"]
    assert not count["incomplete"]
    assert not count["left over"]


def _killed_somewhere(
    command: Command, folder: Path, name: str, seconds: float, rng: random.Random
) -> bool:
    """Kill a command that takes `seconds`; False when it was done before."""
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0, 1.5 * seconds))
    else:
        # From here on it pyramids, exports, reads back, syncs and renames.
        late = rng.choice(["mask.zarr/zarr.json", "summary.json", "run.json"])
        partial = folder / f".{name}.partial"
        while command.poll() is None and not list(partial.glob(f"result.*/{late}")):
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.15))
    command.kill()
    return command.wait() == -9


def _look(result: Path, old: object, new: object) -> str:
    """What bears the final name."""
    if not result.exists():
        return "not there"
    if result.suffix == ".tif" and not result.with_name(f"{result.name}.json").exists():
        return "incomplete"
    if tilseg.verify(result):
        return "incomplete"
    found = content(result)
    return "new" if found == new else "old" if found == old else "incomplete"


def _kill_workers(commands: Commands, rng: random.Random, kills: int) -> None:
    folder, case = commands.folder, CASES[0]
    options = ("--processes", "--workers", "2")
    assert commands.run(*case.command("processes", *options)).poll() == 0
    whole = content(folder / "processes.tilseg")
    count: Counter[str] = Counter()
    while count["kills"] < kills:
        name = f"workers{count['runs']}"
        code = None
        while code != 0:
            command = commands.start(*case.command(name, *options))
            count["starts"] += 1
            count["kills"] += _kill_until(command, rng, kills - count["kills"])
            code = command.wait()
            # 8 where all were killed before they could say that they live.
            assert code in (0, 8), f"exit {code}:\n{command.stderr}"
        count["runs"] += 1
        count["identical"] += content(folder / f"{name}.tilseg") == whole
    show(
        "Kill loop: worker processes",
        ("runs", "workers killed", "starts", "identical in the end"),
        [(count["runs"], count["kills"], count["starts"], count["identical"])],
    )
    assert count["identical"] == count["runs"]


def _kill_until(command: Command, rng: random.Random, most: int) -> int:
    """Kill workers of a command at random moments of their lives; how many."""
    kills = 0
    while command.poll() is None and kills < most:
        time.sleep(rng.uniform(0, 3))
        workers = _workers(command)
        if workers:
            rng.choice(workers).kill()
            kills += 1
    return kills


def _workers(command: Command) -> list[psutil.Process]:
    try:
        children = psutil.Process(command.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


if __name__ == "__main__":
    main()
