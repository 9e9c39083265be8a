"""How much of a training's time is spent outside the network: data, augmentation, bookkeeping.

    python benchmarks/training.py [STEPS]

The sample slide is trained on with every preset of augmentation. Turn about, in blocks of steps, it
learns from batches that are read ahead as in any training, and from one batch that is there already, with
nothing but forward, loss, backward and step. What the first takes longer by the clock is outside the
network: waiting for patches, the average of the weights, and the cores that patches take from the network.
CPU times say the same on a busy machine: `batch` is what a patch thread needs for a step, which on
two cores is hidden as long as it is less than the network's, and `bookkeeping` is not.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from time import perf_counter, thread_time

import numpy as np
import torch
from common import show

from tilseg.training.centres import Centres
from tilseg.training.config import Config
from tilseg.training.dataset import open_dataset
from tilseg.training.loop import _ahead
from tilseg.training.patches import PatchReader
from tilseg.training.settings import AUGMENTATIONS
from tilseg.training.trainer import Trainer

ROOT = Path(__file__).parent.parent
BLOCK = 10


class _Bare(Trainer):
    """A trainer that does nothing beside the steps."""

    def _follow(self) -> None:
        pass


def measure(preset: str, steps: int) -> list[str]:
    sample = ROOT / "sample_data"
    config = Config.model_validate(
        {
            "data": {"images": str(sample / "slide.tif"), "masks": str(sample / "slide_truth.tif")},
            "augmentation": {"preset": preset},
        }
    )
    from tilseg.training.train import _network

    data = open_dataset(config.data, config.classes)
    made, _ = _network(config, data.bands)
    device = torch.device("cpu")
    whole, bare = (cls(made, config, device) for cls in (Trainer, _Bare))
    bare.step = 1  # its learning rate does not matter
    reader = PatchReader(made.field, config.patches.size, config.augmentation)
    centres = Centres(data.training)
    make = lambda step: reader.batch(centres, config.patches.batch, config.seed, step)  # noqa: E731
    batches = _ahead(make, 0)
    fixed = make(0)
    clock: dict[str, list[float]] = {"training": [], "network": []}
    cpu: dict[str, list[float]] = {"training": [], "network": []}
    for number in range(-1, 2 * (steps // BLOCK)):
        name = "network" if number % 2 else "training"
        began, worked = perf_counter(), thread_time()
        for pixels, labels in (
            itertools.islice(batches, BLOCK) if name == "training" else [fixed] * BLOCK
        ):
            (whole if name == "training" else bare).learn(pixels, labels)
        if number >= 0:  # the first block warms up
            clock[name].append((perf_counter() - began) / BLOCK)
            cpu[name].append((thread_time() - worked) / BLOCK)
    batches.close()
    worked = thread_time()
    for number in range(BLOCK):
        make(number)
    batch = (thread_time() - worked) / BLOCK
    step, network_alone = (float(np.median(clock[name])) for name in clock)
    step_cpu, network_cpu = (float(np.median(cpu[name])) for name in cpu)
    return [
        preset,
        f"{100 * (1 - network_alone / step):.1f} %",
        *(f"{1e3 * each:.0f}" for each in (network_cpu, step_cpu - network_cpu, batch)),
        f"{100 * (1 - network_cpu / (max(step_cpu, batch))):.1f} %",
    ]


def main(steps: int) -> None:
    torch.set_num_threads(1)
    show(
        "Time of a training step outside the network: unet-small, 4 patches of 196",
        [
            "augmentation",
            "outside, clock",
            "network, CPU ms",
            "bookkeeping, CPU ms",
            "batch, CPU ms",
            "outside on two free cores",
        ],
        [measure(preset, steps) for preset in AUGMENTATIONS],
        torch_threads=torch.get_num_threads(),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
