"""What sharing blocks out among workers costs, with a network that sleeps.

    python benchmarks/workers.py [--workers 100] [--blocks 40] [--seconds 2]

Real Dask and the real driver; only the block itself is a sleep. Efficiency is the time of workers that
never wait over the time it took. The workers of the first two rows are threads of this process, so that a
hundred of them fit a small machine; those of the last two are processes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from common import show
from distributed import Client, LocalCluster, get_worker

from tilseg.journal import BlockRecord
from tilseg.schedule import stream
from tilseg.schedule.stream import Pass

SLOW = 10


def block(seconds: float, slow: bool) -> Callable[..., BlockRecord]:
    """A block that takes `seconds`; at worker 0 ten times as long, if that is `slow`."""

    def compute(_: str, index: int, _mask_bad: bool) -> BlockRecord:
        late = slow and str(get_worker().name) == "0"
        time.sleep(seconds * (SLOW if late else 1))
        return BlockRecord(index, (), (), (0.0, seconds, 0.0))

    return compute


def run(workers: int, blocks: int, seconds: float, *, slow: bool, processes: bool) -> float:
    """Seconds for `blocks` blocks a worker, each done once and noted."""
    stream.compute_block = block(seconds, slow)  # type: ignore[assignment]
    order: dict[str, Any] = {"n_workers": workers, "threads_per_worker": 1, "processes": processes}
    order |= {"dashboard_address": None, "silence_logs": 50, "memory_limit": 0}
    done: set[int] = set()
    with LocalCluster(**order) as cluster, Client(cluster) as client:
        client.wait_for_workers(workers)
        passing = Pass(
            client,
            "job",  # type: ignore[arg-type]
            True,
            lambda _: None,
            lambda record: done.add(record.index),
            lambda: False,
        )
        began = time.perf_counter()
        failed, _ = passing.over(range(workers * blocks))
        took = time.perf_counter() - began
    assert not failed
    assert len(done) == workers * blocks
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--blocks", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=2)
    asked = parser.parse_args()
    many, ideal = asked.workers, asked.blocks * asked.seconds
    even = run(many, asked.blocks, asked.seconds, slow=False, processes=False)
    uneven = run(many, asked.blocks, asked.seconds, slow=True, processes=False)
    # What all the workers can do together, the slow one for a tenth.
    share = ideal * many / (many - 1 + 1 / SLOW)
    one = run(1, asked.blocks, asked.seconds / 4, slow=False, processes=True)
    two = run(2, asked.blocks // 2, asked.seconds / 4, slow=False, processes=True)
    rows = [
        [f"{many} workers", f"{even:.1f}", f"efficiency {ideal / even:.3f}"],
        [f"{many}, one of them {SLOW} times slower", f"{uneven:.1f}", f"{share / uneven:.3f}"],
        ["1 process", f"{one:.1f}", ""],
        ["2 processes", f"{two:.1f}", f"{one / two:.2f} times one"],
    ]
    words = f"{asked.blocks} blocks of {asked.seconds:g} s for each worker"
    show(f"Workers: {words}", ["what", "seconds", ""], rows, cost=uneven / even - 1)


if __name__ == "__main__":
    main()
