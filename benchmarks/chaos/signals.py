"""Signals at any moment, and two runs at once on one output.

    python benchmarks/chaos/signals.py [--signals 30] [--pairs 50] [--seed 0]

INT, TERM, USR1 or HUP comes at a random time, to the process or to its whole group. The command
ends by that signal, and the same command continues with every block the journal had, and ends
in the bytes of the undisturbed run. The latency is from the signal to the end of the process.
"slow" has blocks of about half a second; with worker processes the group's signals reach the
workers too, which must not mind.
"""

from __future__ import annotations

import argparse
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from desk import CASES, Case, Commands, content, leftovers, opened, save_tiny_model, show

import tilseg
from tilseg.journal import Journal

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--signals", type=int, default=30)
    options.add_argument("--pairs", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    rng = random.Random(asked.seed)
    with tempfile.TemporaryDirectory() as place, opened(Path(place)) as commands:
        slow = _slow_case(commands)
        rows = [
            _send(commands, rng, CASES[0], asked.signals, "small blocks", 1.0),
            _send(commands, rng, slow, asked.signals, "slow blocks", 8.0),
            _send(commands, rng, slow, max(asked.signals // 3, 2), "slow, processes", 20.0),
        ]
        heads = ("blocks", "signals", "died of it", "done before", "right end", "lost blocks")
        heads += ("identical", "block, s", "latency p50, s", "p95, s", "most, s")
        show("Signals", heads, rows)
        _race(commands, asked.pairs)


def _slow_case(commands: Commands) -> Case:
    """Few large tiles of a wide network: half a second a block."""
    folder = commands.folder
    save_tiny_model(folder / "slow.safetensors", classes=3, width=32, depth=4)
    return Case("slow", "image.tif", ".tilseg", "slow.safetensors")


def _send(
    commands: Commands, rng: random.Random, case: Case, count: int, title: str, until: float
) -> tuple[object, ...]:
    folder = commands.folder
    processes = ("--processes", "--workers", "2") if "processes" in title else ()
    undisturbed = commands.run(*case.command(f"undisturbed{len(title)}", *processes))
    assert undisturbed.poll() == 0, undisturbed.stderr
    whole = content(folder / f"undisturbed{len(title)}.tilseg")
    found: Counter[str] = Counter()
    latencies: list[float] = []
    for number in range(count):
        name = f"{title}{number}".replace(" ", "").replace(",", "")
        chosen = rng.choice(SIGNALS)
        command = commands.start(*case.command(name, *processes))
        time.sleep(rng.uniform(0, until))
        began = time.perf_counter()
        command.signal(chosen, group=bool(processes) or rng.random() < 0.5)
        code = command.wait()
        partial = folder / f".{name}.tilseg.partial"
        if code == -chosen:
            found["died"] += 1
            latencies.append(time.perf_counter() - began)
        found["done"] += code == 0
        found["right"] += code in (0, -chosen)
        if code not in (0, -chosen):
            print(f"{chosen!r} ended in {code}:\n{command.stderr}")
        before = _journalled(partial)
        again = commands.run(*case.command(name, *processes))
        kept = tilseg.verify(folder / f"{name}.tilseg") == [] and again.poll() == 0
        skipped = int(again.stderr.split("resuming: ")[1].split()[0]) if before else 0
        found["lost"] += max(before - skipped, 0)
        same = kept and content(folder / f"{name}.tilseg") == whole
        found["identical"] += same and not leftovers(folder, f"{name}.tilseg")
    p50, p95 = np.percentile(latencies, [50, 95])
    block = _block_seconds(folder / f"undisturbed{len(title)}.tilseg")
    measured = (f"{block:.3f}", f"{p50:.2f}", f"{p95:.2f}", f"{max(latencies):.2f}")
    counted = [found[name] for name in ("died", "done", "right", "lost", "identical")]
    assert found["right"] == found["identical"] == count
    assert not found["lost"]
    return (title, count, *counted, *measured)


def _journalled(partial: Path) -> int:
    journal = partial / "journal-0.jsonl"
    if not journal.exists():
        return 0
    copy = partial / "copy"
    copy.write_bytes(journal.read_bytes())
    read = Journal(copy)
    copy.unlink()
    return len(read.records)


def _block_seconds(result: Path) -> float:
    import json

    receipt = json.loads((result / "run.json").read_bytes())
    seconds = receipt["summary"]["seconds"]["predict"]
    return float(seconds / len(receipt["blocks"]))


def _race(commands: Commands, pairs: int) -> None:
    folder = commands.folder
    whole = content(folder / "whole0.tilseg")
    found: Counter[str] = Counter()
    for number in range(pairs):
        name = f"race{number}"
        two = [commands.start(*CASES[0].command(name)) for _ in range(2)]
        codes = sorted(command.wait() for command in two)
        found["pairs"] += 1
        found["one winner"] += codes == [0, 11]
        named = [c for c in two if c.poll() == 11 and f"process {_other(two, c)} on" in c.stderr]
        found["names the owner"] += len(named)
        found["identical"] += content(folder / f"{name}.tilseg") == whole
        found["left over"] += len(leftovers(folder, f"{name}.tilseg"))
    heads = ("pairs", "one winner", "names the owner", "identical", "left over")
    show("Races", heads, [tuple(found[name] for name in heads)])
    assert found["one winner"] == found["names the owner"] == found["identical"] == pairs
    assert not found["left over"]


def _other(two: list[object], one: object) -> int:
    (other,) = (command for command in two if command is not one)
    return int(other.pid)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
