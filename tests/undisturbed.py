"""A desk for tests of runs that are disturbed, and what they must end in: the undisturbed result."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from forking import Command, Commands
from tiny import STEADY, noise, save_tiny_model, tree

import tilseg

SHAPE = (467, 331)
# Small tiles, so that a run has a middle: 12 blocks.
RUN = ("--model", "tiny.safetensors", "--tile", "64", "--threads", "1")


def lay_out(folder: Path) -> np.ndarray:
    """Make two models and slide.tif; returns its pixels."""
    save_tiny_model(folder / "tiny.safetensors", classes=3, normalization=STEADY)
    save_tiny_model(folder / "other.safetensors", classes=3, seed=1)
    pixels = noise(*SHAPE)
    tifffile.imwrite(folder / "slide.tif", pixels, tile=(64, 64), photometric="rgb")
    return pixels


def make_whole(commands: Commands, image: str = "slide") -> None:
    """Make what `equals_whole` compares with."""
    done = commands.run("run", f"{image}.tif", *RUN, "-o", f"whole-{image}.tilseg")
    assert done.poll() == 0, done.stderr


def equals_whole(folder: Path, name: str, image: str = "slide") -> bool:
    """Whether a result is verified, the same in all but its times, and nothing else is left."""
    assert tilseg.verify(folder / name) == []
    assert not list(folder.glob(f".{name}*"))
    return _content(folder / name) == _content(folder / f"whole-{image}.tilseg")


def _content(result: Path) -> dict[str, Any]:
    """All of a result that may not depend on what happened on the way."""
    summary = json.loads((result / "summary.json").read_bytes())
    del summary["seconds"], summary["blocks"]
    return {**tree(result), "summary": summary}


def blocks(folder: Path, name: str) -> int:
    """Finished blocks of an unfinished run, in the journals of all its drivers."""
    found = 0
    for path in folder.glob(f".{name}.partial/journal-*.jsonl"):
        # It may be published, and gone, between two looks.
        with contextlib.suppress(FileNotFoundError):
            found += path.read_bytes().count(b'"crcs"')
    return found


def until_blocks(command: Command, folder: Path, name: str, count: int) -> None:
    """Wait for `count` finished blocks, or the end of the command."""
    while command.poll() is None and blocks(folder, name) < count:
        time.sleep(0.002)
