"""What augmentation costs: CPU time of a batch of each preset, beside a step of the network.

    python benchmarks/augmentation.py

The network is `unet-small` in three bands, the batch four patches of 196 pixels, all on one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

import tilseg
from tilseg.card import Normalization
from tilseg.models.network import make_network
from tilseg.statistics import band_statistics
from tilseg.training.centres import Centres
from tilseg.training.config import Config
from tilseg.training.patches import PatchReader
from tilseg.training.samples import in_memory, make_sample
from tilseg.training.settings import AUGMENTATIONS
from tilseg.training.trainer import Trainer
from tilseg.truth.raster import open_raster

SHAPE, REPEATS = (1031, 907), 20


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    source = tilseg.open_source(rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8))
    labels = open_raster(rng.integers(0, 2, SHAPE, dtype=np.uint8))
    statistics = band_statistics(source, Normalization(kind="image"), bands=range(3))
    sample = in_memory(make_sample("noise", source, labels, statistics=statistics))
    config = Config()
    centres = Centres((sample,), config.patches.balance, config.seed)
    parameters = {"bands": 3, "classes": 2, **config.network.arguments}
    network = make_network(config.network.architecture, parameters)
    trainer = Trainer(network, config, torch.device("cpu"))
    plain = PatchReader(network.field, config.patches.size, AUGMENTATIONS["light"])
    pixels, truth = plain.batch(centres, config.patches.batch, 0, 0)
    step = seconds(lambda _: trainer.learn(pixels, truth))
    print(f"one step of the network: {1000 * step:.0f} ms")
    for name, augmentation in AUGMENTATIONS.items():
        reader = PatchReader(network.field, config.patches.size, augmentation)
        batch = seconds(lambda n, r=reader: r.batch(centres, config.patches.batch, 0, n))
        print(f"{name:10s} {1000 * batch:5.1f} ms a batch, {batch / (batch + step):.1%} of both")


def seconds(work: Callable[[int], object]) -> float:
    """CPU time of one call, the first of which is not counted."""
    work(0)
    began = time.process_time()
    for number in range(1, REPEATS + 1):
        work(number)
    return (time.process_time() - began) / REPEATS


if __name__ == "__main__":
    main()
