"""One segmentation in a process of its own: how long it took, and how large the process grew."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True)
class Work:
    """What is to be done: the argument of every script here, as JSON.

    image, model: files. output: of the mask, still without suffix. mean, std: of each band.
    precision: "fp32" or "bf16". whole: have the network take the image in one piece.
    """

    image: str
    model: str
    output: str
    mean: list[float]
    std: list[float]
    precision: str
    whole: bool

    def normalised(self, pixels: np.ndarray) -> np.ndarray:
        """Raw (rows, cols, bands) as the network takes them: float32."""
        rows, cols, _ = pixels.shape
        # Whole rows at a time: several times as fast as an innermost axis of three bands.
        flat = pixels.reshape(rows, -1) - np.tile(np.float32(self.mean), cols)
        flat /= np.tile(np.float32(self.std), cols)
        return flat.reshape(pixels.shape)


def main(segment: Callable[[Work], str]) -> None:
    """Print the seconds `segment` takes, those of its CPUs, and the peak memory of this process, in bytes.

    segment: from the file of an image to that of its mask, whose path it returns. A small image is
    segmented before, so that neither modules are imported nor kernels chosen within the time.
    """
    work = Work(**json.loads(sys.argv[1]))
    small = dataclasses.replace(work, image=sys.argv[2], output=work.output + "-small", whole=False)
    segment(small)
    began, used = time.perf_counter(), time.process_time()
    mask = segment(work)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    # Not getrusage: that begins with the memory of the process by which this one was begun.
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": peak, "mask": mask}))
