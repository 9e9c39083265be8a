"""Tiles to a device of its own memory and their classes back, so that it never waits for a copy.

Pixels travel as the image has them and classes as bytes: what is wider stays on the device.
See docs/design/0018-gpu.md.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tilseg.errors import ResourceError

# Of what is free on a device: another shape may take other kernels, with more room to work in.
_SHARE_OF_FREE = 0.8

Step = Callable[[Tensor], tuple[Tensor, ...]]


class Feed:
    """One device, fed by the threads that call `run`.

    A thread copies its pixels to and its results from the device on a stream of its own, by way of
    page-locked memory that torch keeps for the next. All compute on one stream, in turn: two
    threads are enough for one tile to travel while another is computed, and activations are there
    once.

    device: "cuda:0". "cpu" does the same things without any streams, for tests.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._cuda = device != "cpu"
        self._library: Any = torch.get_device_module(device)
        self._computing = self._stream()
        self._own = threading.local()
        self._turn = threading.Lock()
        if self._cuda:
            # Other processes have no use for what this one keeps.
            weakref.finalize(self, torch.cuda.empty_cache).atexit = False

    def run(self, step: Step, pixels: NDArray[Any]) -> tuple[Tensor, ...]:
        """`step` of `pixels`, any numbers of any layout, on the device; its results in host memory.

        step: of a tensor on the device, without asking for a number of it, which would wait.
        Where memory runs out, what is kept for the next tile is given back and the step is taken
        once more. Raises ResourceError E-MEMORY-DEVICE where that does not help.
        """
        for _ in range(2):
            try:
                return self._once(step, pixels)
            except torch.OutOfMemoryError:
                # Of no use in here: the exception holds the activations of the step that failed.
                pass
            self._give_back()
        rows, cols = pixels.shape[:2]
        free = f"{self.free_bytes() / 1e9:.1f} GB"
        raise ResourceError("E-MEMORY-DEVICE", rows=rows, cols=cols, device=self.device, free=free)

    def _once(self, step: Step, pixels: NDArray[Any]) -> tuple[Tensor, ...]:
        stream = self._library.stream
        copying = self._copying()
        with stream(copying):
            there = self._staged(pixels).to(self.device, non_blocking=True)
            arrived = copying.record_event()
        with self._turn, stream(self._computing):
            self._computing.wait_event(arrived)
            found = step(there)
            computed = self._computing.record_event()
        with stream(copying):
            copying.wait_event(computed)
            back = tuple(part.to("cpu", non_blocking=True) for part in found)
            # Only now may `there` and `found` go, which another stream than their own has used.
            self._wait_for(copying)
        return back

    def _staged(self, pixels: NDArray[Any]) -> Tensor:
        """A copy from which the device can read by itself."""
        native = np.empty(0, pixels.dtype.newbyteorder("="))
        dtype = torch.from_numpy(native).dtype
        staged = torch.empty(pixels.shape, dtype=dtype, pin_memory=self._cuda)
        np.copyto(staged.numpy(), pixels)
        return staged

    def _copying(self) -> Any:
        """This thread's stream of copies."""
        if not hasattr(self._own, "stream"):
            self._own.stream = self._stream()
        return self._own.stream

    def _stream(self) -> Any:
        return self._library.Stream(self.device) if self._cuda else self._library.Stream()

    def _wait_for(self, stream: Any) -> None:
        # A blocking event leaves the CPU to those who decode images.
        done = self._library.Event(blocking=True) if self._cuda else self._library.Event()
        done.record(stream)
        done.synchronize()

    def _give_back(self) -> None:
        """Let go of the memory kept for further tiles, once nothing is under way in it."""
        with self._turn:
            self._library.synchronize(self.device)
            if self._cuda:
                torch.cuda.empty_cache()

    def free_bytes(self) -> int:
        """Memory of the device that nobody has."""
        return torch.cuda.mem_get_info(self.device)[0]

    def peak_bytes(self, work: Callable[[], object]) -> int:
        """The most memory of the device that `work` makes this process hold beside what it holds
        now; none of it is kept."""
        self._give_back()
        before = torch.cuda.memory_reserved(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        work()
        most = torch.cuda.max_memory_reserved(self.device)
        self._give_back()
        return most - before

    def largest_side(self, work: Callable[[], object], side: int) -> int:
        """The side of the largest square input that fits, by `work`, which predicts one of `side`.

        Memory grows with the area.
        """
        taken = self.peak_bytes(work)
        return int(side * math.sqrt(_SHARE_OF_FREE * self.free_bytes() / taken))
