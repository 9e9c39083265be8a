"""Freed memory is kept, and a prediction takes no more than it said."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tiny import save_tiny_model

PROGRAM = """
import json, resource, sys, threading
import numpy as np
from concurrent.futures import ThreadPoolExecutor
# Threads with heaps of their own, as a program that uses numpy has them.
begun = threading.Barrier(9)
with ThreadPoolExecutor(8) as before:
    for _ in range(8):
        before.submit(lambda: (bytearray(2**20), begun.wait()))
    begun.wait()
from tilseg import load_model
from tilseg.model import BandStatistics
from tilseg.heap import give_back_freed_memory, keep_freed_memory, thread_of_kept_heap
from tilseg.window import Size

def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def peak():
    # Not ru_maxrss, which a new process inherits from the one that began it.
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
def now(): return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

model = load_model(sys.argv[1], device="cpu", threads=1)
statistics = BandStatistics((9.0,), (7.0,))
def predict(output):
    side = model.field.input_for(output)
    model.predict(np.ones((1, side, side, 1), np.uint8), statistics)
def work():
    global before, faulted
    predict(16)
    before = now()
    predict(512)
    faulted = faults()
    for _ in range(5):
        predict(512)
    faulted = (faults() - faulted) / 5
with thread_of_kept_heap("test") as worker:
    worker.submit(work).result()
size = Size(*[model.field.input_for(512)] * 2)
held = now()
give_back_freed_memory()
print(json.dumps({
    "kept": keep_freed_memory(),
    "faults": faulted,
    "pages": model.working_bytes(size) / resource.getpagesize(),
    "taken": peak() - before,
    "promised": model.working_bytes(size),
    "given back": held - now(),
}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_kept_and_promised(tmp_path):
    model = save_tiny_model(tmp_path / "m.safetensors", bands=1, depth=2, width=16)
    environment = {key: value for key, value in os.environ.items() if "MALLOC" not in key}
    found = json.loads(
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(model)],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        ).stdout
    )
    assert found["promised"] / 4 < found["taken"] <= found["promised"]
    if found["kept"]:
        # The second prediction finds its memory mapped: without, all its pages fault again.
        assert found["faults"] < found["pages"] / 20
        assert found["given back"] > found["taken"] / 2
