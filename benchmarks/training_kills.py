"""Trainings killed at random moments and continued: do they end where an undisturbed one does?

    python benchmarks/training_kills.py [KILLS] [SEED]

One training is left alone. The other is killed (SIGKILL, a real process) KILLS times at moments drawn
from a third of its time, and the same command is given again each time. Prints the validation metrics
of both and their largest difference, and ends with 1 if that is above 1e-3.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from common import show
from skimage.draw import ellipse

STEPS = 150
PROGRAM = [sys.executable, "-c", "from tilseg.cli.main import main; main()", "train"]


def pictures(folder: Path, count: int = 8) -> None:
    """Bright ellipses among dark ones, with masks of the bright."""
    rng = np.random.default_rng(0)
    for number in range(count):
        image, mask = np.full((211, 257), 90.0), np.zeros((211, 257), np.uint8)
        for bright in (0, 1) * 12:
            place = ellipse(
                *rng.integers(0, image.shape), *rng.uniform(5, 12, 2), shape=image.shape
            )
            image[place], mask[place] = (150, 1) if bright else (40, 0)
        noisy = (image + rng.normal(0, 20, image.shape)).clip(0, 255).astype(np.uint8)
        for name, pixels in (("images", noisy), ("masks", mask)):
            (folder / name).mkdir(exist_ok=True)
            tifffile.imwrite(folder / name / f"{number}.tif", pixels)


def start(folder: Path, model: str) -> subprocess.Popen[bytes]:
    options = f"--depth 2 --width 8 --batch 2 --patch 64 --steps {STEPS} --validations 10".split()
    command = [*PROGRAM, "images", "masks", "-o", model, *options]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def lines(folder: Path, model: str) -> list[dict[str, str]]:
    with (folder / model.replace(".safetensors", ".training") / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def main(kills: int, seed: int) -> int:
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures(folder)
        began = time.monotonic()
        assert start(folder, "whole.safetensors").wait() == 0
        seconds = time.monotonic() - began
        killed = []
        while len(killed) < kills:
            process = start(folder, "killed.safetensors")
            moment = float(rng.uniform(0, seconds / 3))
            try:
                process.wait(moment)
                break  # it was complete before
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed.append(moment)
        assert start(folder, "killed.safetensors").wait() == 0
        whole, again = (lines(folder, f"{name}.safetensors") for name in ("whole", "killed"))
    figures = ("dice", "mean_iou", "boundary_f1", "object_f1", "pixel_accuracy", "loss")
    steps = [line["step"] for line in whole] == [line["step"] for line in again]
    apart = {
        name: max(abs(float(a[name]) - float(b[name])) for a, b in zip(whole, again, strict=True))
        for name in figures
    }
    rows = [[n, whole[-1][n], again[-1][n], f"{apart[n]:.2g}"] for n in figures]
    show(
        f"A training of {seconds:.0f} s killed {len(killed)} times",
        ["last validation", "undisturbed", "killed", "largest difference of all validations"],
        rows,
        moments=[round(moment, 1) for moment in killed],
        same_steps=steps,
    )
    return int(not steps or max(apart.values()) > 1e-3)


if __name__ == "__main__":
    sys.exit(
        main(*map(int, sys.argv[1:3] or (5, 0)))
        if len(sys.argv) != 2
        else main(int(sys.argv[1]), 0)
    )
