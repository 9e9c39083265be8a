"""Disks that are too small or fill up: nothing incomplete is published, nothing fails in silence.

    python benchmarks/chaos/disk_full.py [--runs 10] [--seed 0]

The disk is too small from the start, or it fills up at a random moment of the run, or no file
may grow beyond a random size (RLIMIT_FSIZE). The first two need Linux with user namespaces: the
script starts itself again in one, with a tmpfs of its own for the outputs, and leaves them out
where that is not allowed. Every run that does not fit must exit 7, leave nothing under the final
name, and, given space, continue to the bytes of the undisturbed run.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import desk
from desk import Case, Command, Commands, content, opened, show

# Masks of noise take more than is expected of masks, so that disks fill up after the preflight.
CASES = [replace(case, image=f"large {case.image}", tile=256) for case in desk.CASES]

_MARK = "TILSEG_CHAOS_NAMESPACE"
_PLENTY = 2**28
_BOUNDS = ("small disk", "disk fills up", "small files")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=10)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    if _MARK not in os.environ and _may_mount():
        inside = ["unshare", "-Urm", sys.executable, *sys.argv]
        sys.exit(subprocess.run(inside, check=False, env={**os.environ, _MARK: "1"}).returncode)
    rng = random.Random(asked.seed)
    rows = []
    with tempfile.TemporaryDirectory() as place, opened(Path(place), CASES) as commands:
        for number in range(len(CASES)):
            trial = _Trial(commands, number, rng)
            for bound in _BOUNDS if _MARK in os.environ else _BOUNDS[2:]:
                rows.append((CASES[number].name, *trial.fill(bound, asked.runs)))
    heads = ("output", "bound", "runs", "too small", "exit 7", "by the preflight")
    show("Disk full", (*heads, "under the final name", "continued to the same bytes"), rows)
    assert all(row[3] == row[4] == row[7] and not row[6] for row in rows)


def _may_mount() -> bool:
    probe = ["unshare", "-Urm", "mount", "-t", "tmpfs", "none", tempfile.gettempdir()]
    try:
        return subprocess.run(probe, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


class _Trial:
    """One case on a disk of its own."""

    def __init__(self, commands: Commands, number: int, rng: random.Random) -> None:
        self.commands = commands
        self.case: Case = CASES[number]
        self.rng = rng
        self.whole = content(commands.folder / f"whole{number}{self.case.suffix}")
        self.disk = commands.folder / f"disk{number}"
        self.disk.mkdir()
        self.mounted = False
        began = time.perf_counter()
        self._resize(_PLENTY)
        assert commands.run(*self._command("most")).poll() == 0
        self.seconds = time.perf_counter() - began
        files = [path for path in self.disk.rglob("*") if path.is_file()]
        self.largest = max(path.stat().st_size for path in files)
        self.used = self._used()

    def fill(self, bound: str, runs: int) -> tuple[object, ...]:
        found: Counter[str] = Counter()
        for run in range(runs):
            self._empty()
            command = self._start(bound, run)
            code = command.wait()
            result = self.disk / f"{run}{self.case.suffix}"
            if code == 0:
                assert content(result) == self.whole
                continue
            found["too small"] += 1
            found["exit 7"] += code == 7
            found["preflight"] += "error[E-DISK]" in command.stderr
            found["final name"] += result.exists()
            if code != 7:
                print(f"{self.case.name}, {bound}: exit {code}\n{command.stderr}")
            self._resize(_PLENTY)
            again = self.commands.run(*self._command(str(run)))
            found["same"] += again.poll() == 0 and content(result) == self.whole
        self._empty()
        counts = (
            found[name] for name in ("too small", "exit 7", "preflight", "final name", "same")
        )
        return (bound, runs, *counts)

    def _start(self, bound: str, run: int) -> Command:
        order, draw = self._command(str(run)), self.rng.random()
        if bound == "small files":
            return self.commands.start(*order, limit=int(draw * self.largest))
        if bound == "small disk":
            # A COG alone is made by way of a mask.zarr and a plain copy.
            self._resize(int(draw * self.used * (4 if self.case.suffix == ".tif" else 1.5)))
            return self.commands.start(*order)
        self._resize(_PLENTY)
        command = self.commands.start(*order)
        time.sleep(draw * self.seconds)
        self._resize(self._used() + 4096)
        return command

    def _command(self, name: str) -> tuple[str, ...]:
        return self.case.command(f"{self.disk.name}/{name}")

    def _used(self) -> int:
        status = os.statvfs(self.disk)
        return (status.f_blocks - status.f_bfree) * status.f_frsize

    def _resize(self, size: int) -> None:
        if _MARK not in os.environ:
            return
        how = "remount," if self.mounted else ""
        order = ["mount", "-t", "tmpfs", "-o", f"{how}size={size}", "none", str(self.disk)]
        # Refused when more has been written since: then the disk stays large, and the run fits.
        done = subprocess.run(order, check=not self.mounted, capture_output=True)
        self.mounted = self.mounted or done.returncode == 0

    def _empty(self) -> None:
        for path in self.disk.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if self.mounted:
            subprocess.run(["umount", str(self.disk)], check=True)
            self.mounted = False


if __name__ == "__main__":
    main()
