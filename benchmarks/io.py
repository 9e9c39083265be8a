"""How much of a run the network waits for reading and writing, file to mask on disk.

    python benchmarks/io.py [--megapixels 64] [--width 16] [--rounds 3]

Waiting is the time in which a thread that predicts has nothing to predict, from the first
prediction to the last, over all its time; pixels are decoded from JPEG tiles and compressed masks are
written meanwhile.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from common import big_image, model_file, show

import tilseg
from tilseg.lanes import Lanes


class Clock:
    """What the lanes of a run do, from the first piece of work to the last."""

    def __init__(self) -> None:
        self.busy = 0.0
        self.first, self.last = math.inf, 0.0
        self._lock = threading.Lock()

    def around(self, submit: Any) -> Any:
        def timed(work: Any, *args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                ended = time.perf_counter()
                with self._lock:
                    self.busy += ended - began
                    self.first, self.last = min(self.first, began), max(self.last, ended)

        return lambda lanes, work, *args, **kwargs: submit(lanes, timed, work, *args, **kwargs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=float, default=64)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    side = math.isqrt(int(asked.megapixels * 1e6))
    rows, waits, submit = [], [], Lanes.submit
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = big_image(folder / "image.tif", side, side)
        file = model_file(folder / "model.safetensors", width=asked.width)
        for number in range(asked.rounds):
            source, model = tilseg.open_source(image), tilseg.load_model(file)
            plan = tilseg.make_plan(source, model)
            clock = Clock()
            Lanes.submit = clock.around(submit)  # type: ignore[method-assign]
            report = tilseg.run(plan, folder / f"{number}.tilseg")
            source.close()
            whole = plan.lanes * (clock.last - clock.first)
            waits.append(1 - clock.busy / whole)
            seconds = report.summary["seconds"]
            rows.append(
                (
                    number + 1,
                    f"{clock.last - clock.first:.1f} s",
                    f"{100 * waits[-1]:.2f} %",
                    f"{seconds['finish']:.1f} s",
                )
            )
    show(
        f"Waiting for data: {asked.megapixels:g} Mpix, width {asked.width}",
        ("round", "first to last prediction", "waiting", "finishing after it"),
        rows,
        waiting=round(statistics.median(waits), 4),
    )


if __name__ == "__main__":
    main()
