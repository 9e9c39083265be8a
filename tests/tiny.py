"""Small models and images for tests of everything that is not a model."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from forking import Commands

from tilseg.card import Card, ClassInfo, Normalization
from tilseg.instance_rule import InstanceRule
from tilseg.model import BandStatistics
from tilseg.plan import Plan, TileGrid

IMAGE = Normalization(kind="image")
# The same for every image, where a comparison needs it.
STEADY = Normalization(kind="constants", mean=(127.0,) * 3, std=(74.0,) * 3)

TILSEG = str(Path(sys.executable).parent / "tilseg")


def save_tiny_model(
    path: Path,
    *,
    bands: int = 3,
    classes: int = 2,
    seed: int = 0,
    normalization: Normalization = IMAGE,
    instances: InstanceRule | None = None,
    band_names: tuple[str, ...] = (),
    names: tuple[str, ...] = (),
    **parameters: Any,
) -> Path:
    """A random-weight valid U-Net whose classes all occur, saved at `path`."""
    import torch

    from tilseg.models.network import save_model
    from tilseg.models.unet import build

    torch.manual_seed(seed)
    parameters = {"depth": 2, "width": 4, **parameters, "bands": bands, "classes": classes}
    network = build(parameters)
    field = network.field
    card = Card(
        name=path.stem,
        architecture="unet",
        parameters=parameters,
        bands=bands,
        band_names=band_names,
        normalization=normalization,
        head="softmax",
        instances=instances,
        classes=tuple(
            ClassInfo(name=names[k] if names else f"class {k}", color=f"#{40 * k:02x}8040")
            for k in range(classes)
        ),
        halo=field.halo,
        stride=field.stride,
        offset=field.offset,
        inexact=network.inexact,
    )
    _balance(network, bands)
    save_model(network, card, path)
    return path


def tiny_plan(grid: TileGrid, **choices: Any) -> Plan:
    """A plan of three bands for what never opens its image and its model: there are none."""
    facts = {
        "source": "x.tif",
        "level": 0,
        "bands": (0, 1, 2),
        "model": "m.safetensors",
        "model_sha256": "0",
        "statistics": BandStatistics((0.0,) * 3, (1.0,) * 3),
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
    }
    return Plan(grid=grid, **(facts | choices))


def _balance(network: Any, bands: int) -> None:
    # Random weights make one class win everywhere; equal means make every class occur.
    import torch

    last = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    network.eval()
    with torch.inference_mode():
        side = network.field.input_for(32)
        scores = network(torch.randn(1, bands, side, side))
        last.weight /= scores.std(dim=(0, 2, 3))[:, None, None, None]
        scores = network(torch.randn(1, bands, side, side))
        last.bias -= scores.mean(dim=(0, 2, 3))


def noise(rows: int, cols: int, bands: int = 3, seed: int = 0, dtype: Any = np.uint8) -> np.ndarray:
    """Smooth noise, so that masks have regions: (rows, cols, bands)."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (rows // 7 + 2, cols // 7 + 2, bands))
    return np.repeat(np.repeat(coarse, 7, 0), 7, 1)[:rows, :cols].astype(dtype)


def typed(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user types it, with its own interpreter and its seconds of imports."""
    environment = {**os.environ, "COLUMNS": "100"}
    order = [TILSEG, *map(str, arguments)]
    return subprocess.run(
        order, check=False, cwd=cwd, env=environment, capture_output=True, text=True
    )


def tilseg(
    *arguments: object, cwd: Path, check: bool = False, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own that finds everything imported; see `forking`."""
    command = commands().run(*arguments, cwd=cwd, env=env)
    done = subprocess.CompletedProcess(
        ["tilseg", *map(str, arguments)], command.wait(), command.stdout, command.stderr
    )
    if check:
        done.check_returncode()
    return done


@cache
def commands() -> Commands:
    """What starts them, the same for all tests of a process."""
    folder = tempfile.TemporaryDirectory()
    found = Commands(Path(folder.name))
    atexit.register(folder.cleanup)
    atexit.register(found.close)
    return found


def tree(
    root: Path, *, without: tuple[str, ...] = ("run.json", "summary.json")
) -> dict[str, bytes]:
    """Every file below `root` by relative path; those that hold times are left out."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in without
    }
