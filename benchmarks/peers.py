"""`tilseg.run` against other tools with the same weights, file to mask on disk, imports excluded.

    python benchmarks/peers.py [speed] [labels] [--megapixels 64] [--widths 16 32]
        [--rounds 3] [--work DIR]

speed: the network is a U-Net of depth 4 with batch normalisation and random weights, whose two classes
are about as frequent; TIAToolbox and MONAI get it with padded convolutions, as they expect. Each
measurement is a process of its own that first segments a small picture; processes take turns, and
medians count. The others are told mean and deviation of the bands, which tilseg finds within its time.
labels: how many pixels of 4 megapixels each tool gives another class in tiles than in one piece, with
trained weights. Both without a word.

The tools are installed into an environment in DIR, the first time. TIAToolbox asks for an older torch
than the others; it runs with theirs.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from common import big_image, model_file, show
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import tilseg
from tilseg.model import bundled_models
from tilseg.window import Window

FOLDER = Path(__file__).parent / "peer"
TORCH = "torch==2.13.0"
OTHERS = ("monai==1.6.1", "safetensors==0.8.0")
# Without what they ask for, which is an older torch; installed by `_ENOUGH` without that.
ALONE = ("tiatoolbox==2.1.3", "torchvision==0.28.0")
_ENOUGH = """
from importlib.metadata import requires
print(*(each for each in requires("tiatoolbox") if not each.startswith("torch")), sep="\\n")
"""
# Of a network as a whole, on a machine with 8 GB.
WHOLE_MEGAPIXELS = 4
# Freed memory is kept, in one heap, and a prediction has one thread.
LEVERS = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
}


@dataclass(frozen=True)
class Peer:
    """A way to a mask: the script, its words, and the variables it runs under."""

    name: str
    script: str
    words: tuple[str, ...] = ()
    precision: str = "fp32"
    levers: bool = False


TIATOOLBOX = Peer("TIAToolbox 2.1.3", "with_tiatoolbox.py")
MONAI = Peer("MONAI 1.6.1", "with_monai.py")
PLAIN = Peer("plain loop", "loops.py", ("plain",))
BEST, BEST_BF16 = (
    Peer(f"best loop, {precision}", "loops.py", ("levers",), precision, levers=True)
    for precision in ("fp32", "bf16")
)
TILSEG, TILSEG_BF16 = (
    Peer(f"tilseg, {precision}", "with_tilseg.py", ("mask",), precision)
    for precision in ("fp32", "bf16")
)
EVERYTHING = Peer("tilseg, fp32, with regions and report", "with_tilseg.py", ("everything",))
PEERS = (TIATOOLBOX, MONAI, PLAIN, BEST, TILSEG, EVERYTHING, BEST_BF16, TILSEG_BF16)

# What is wanted: who, times as fast as whom.
WANTED = (
    (TILSEG, TIATOOLBOX, 2.6),
    (TILSEG, MONAI, 3.5),
    (TILSEG, BEST, 0.92),
    (TILSEG_BF16, TIATOOLBOX, 4.8),
    (TILSEG_BF16, MONAI, 6.5),
    (TILSEG_BF16, BEST_BF16, 0.92),
)


PARTS = ["speed", "labels"]


def environment(work: Path) -> Path:
    """The interpreter of the environment of the other tools, which is made where it is not there."""
    folder = work / "peers-venv"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, TORCH, *OTHERS], check=True)
        subprocess.run([*install, "--no-deps", *ALONE], check=True)
        asked = subprocess.run([python, "-c", _ENOUGH], check=True, capture_output=True, text=True)
        subprocess.run([*install, TORCH, *OTHERS, *asked.stdout.splitlines()], check=True)
        (folder / "complete").touch()
    return python


@dataclass(frozen=True)
class Bench:
    """One image and one model for all."""

    python: Path
    work: Path
    image: Path
    model: Path

    def measure(self, peer: Peer, *, whole: bool = False) -> dict[str, Any]:
        """Seconds, peak memory in bytes, and the mask of one run in a process of its own."""
        asked = {
            "image": str(self.image),
            "model": str(self.model),
            "output": str(self.work / ("whole" if whole else "mask")),
            "precision": peer.precision,
            "whole": whole,
            **self._statistics,
        }
        small = big_image(self.work / "peers-small.tif", 320, 304)
        python = sys.executable if peer.script == "with_tilseg.py" else self.python
        variables = {name: v for name, v in os.environ.items() if name != "OMP_NUM_THREADS"}
        done = subprocess.run(
            [python, FOLDER / peer.script, json.dumps(asked), small, *peer.words],
            env=variables | (LEVERS if peer.levers else {}),
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{peer.name}: {done.stderr[-4000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        found["mask"] = _labels(Path(found["mask"]))
        return found

    @functools.cached_property
    def _statistics(self) -> dict[str, list[float]]:
        with contextlib.closing(tilseg.open_source(self.image)) as source:
            plan = tilseg.make_plan(source, tilseg.load_model(self.model))
        return {"mean": list(plan.statistics.mean), "std": list(plan.statistics.std)}


def _labels(mask: Path) -> np.ndarray:
    if mask.suffix == ".tif":
        return tifffile.imread(mask)
    return zarr.open_array(mask, mode="r")[:]


def image(work: Path, megapixels: float) -> Path:
    """An image that no tile divides, in sides that a padded network of depth 4 takes."""
    side = math.isqrt(int(megapixels * 1e6)) // 16 * 16
    return big_image(work / f"peers-{megapixels:g}.tif", side + 208, side - 192)


def rounds(bench: Bench, count: int) -> dict[Peer, dict[str, float]]:
    """Medians of each peer: megapixels a second, CPU seconds a megapixel, peak memory in MB."""
    found: dict[Peer, list[dict[str, float]]] = {peer: [] for peer in PEERS}
    for number in range(count):
        for peer in PEERS:
            took = bench.measure(peer)
            print(f"round {number + 1}, {peer.name}: {took['seconds']:.2f} s", file=sys.stderr)
            pixels = took["mask"].size / 1e6
            found[peer].append(
                {
                    "rate": pixels / took["seconds"],
                    "cpu": took["cpu"] / pixels,
                    "peak": took["peak"] / 1e6,
                }
            )
    return {
        peer: {name: statistics.median(each[name] for each in taken) for name in taken[0]}
        for peer, taken in found.items()
    }


def balanced(path: Path, image: Path) -> Path:
    """The model at `path` with a bias that gives half of a corner of `image` to each class."""
    with contextlib.closing(tilseg.open_source(image)) as source:
        model = tilseg.load_model(path)
        side = model.field.input_for(256)
        pixels = source.read(Window(0, 0, side, side))
        first, second = model.logits(pixels[None], tilseg.make_plan(source, model).statistics)[0]
    weights = load_file(path)
    with safe_open(path, "pt") as file:
        card = file.metadata()
    weights["head.bias"][0] += float(np.median(second - first))
    save_file(weights, path, card)
    return path


def speed(python: Path, work: Path, width: int, asked: argparse.Namespace) -> None:
    picture = image(work, asked.megapixels)
    model = balanced(model_file(work / f"peers-{width}.safetensors", width=width), picture)
    found = rounds(Bench(python, work, picture, model), asked.rounds)
    rate = {peer: medians["rate"] for peer, medians in found.items()}
    peak = {peer: medians["peak"] for peer, medians in found.items()}
    show(
        f"Peers: {asked.megapixels:g} Mpix, width {width}, {asked.rounds} rounds, {TORCH}",
        ("", "Mpix/s", "times TIAToolbox", "times MONAI", "CPU s/Mpix", "peak, MB"),
        [
            (
                peer.name,
                f"{rate[peer]:.3f}",
                f"{rate[peer] / rate[TIATOOLBOX]:.2f}",
                f"{rate[peer] / rate[MONAI]:.2f}",
                f"{found[peer]['cpu']:.3f}",
                f"{peak[peer]:.0f}",
            )
            for peer in PEERS
        ],
    )
    for one, other, wanted in WANTED:
        print(f"{one.name} : {other.name} {rate[one] / rate[other]:.2f}, wanted {wanted}")
    memory = peak[TILSEG] / min(peak[TIATOOLBOX], peak[MONAI])
    print(f"peak of {TILSEG.name} : the smaller of the tools {memory:.2f}, wanted 0.8 at most")


def labels(python: Path, work: Path) -> None:
    """What tiles change in the labels of a trained network."""
    bench = Bench(python, work, image(work, WHOLE_MEGAPIXELS), bundled_models()["nuclei"])
    rows = []
    for peer in PEERS:
        if peer is not EVERYTHING:
            tiled, whole = (bench.measure(peer, whole=whole)["mask"] for whole in (False, True))
            rows.append((peer.name, f"{100 * (tiled != whole).mean():.4f}"))
    show(
        f"Peers: labels that tiles change, {WHOLE_MEGAPIXELS} Mpix, the bundled nuclei model",
        ("", "% of the pixels"),
        rows,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--megapixels", type=float, default=64)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keeps the environment, images and models")
    asked = parser.parse_args()
    work = asked.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    python = environment(work)
    if "speed" in asked.parts:
        for width in asked.widths:
            speed(python, work, width, asked)
    if "labels" in asked.parts:
        labels(python, work)
    if asked.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
