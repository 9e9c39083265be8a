"""Blocks through Dask: a bounded number in flight, records back, no pixels ever.

Only public `Client.submit`, plain arguments and no annotations: these are what keeps the
scheduler's own queueing on (see docs/design).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tilseg.infer import BlockFailure, Job, compute_block, release, worker_for
from tilseg.journal import BlockRecord

# Enough to keep every thread busy while the driver is away, few enough that little is lost.
_IN_FLIGHT_PER_THREAD = 3


@contextmanager
def local_client(threads: int) -> Iterator[Any]:
    """A Dask client on a cluster inside this process: `threads` threads, no port, no dashboard."""
    import dask
    from distributed import Client, LocalCluster

    settings = {
        # Memory is bounded by the plan; Dask's own limits would pause the only worker for ever.
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": False,
        # A network call may hold the GIL-free event loop's thread for seconds.
        "distributed.admin.tick.limit": "1h",
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=1,
            threads_per_worker=threads,
            processes=False,
            dashboard_address=None,
            protocol="inproc://",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def run_blocks(
    job: Job,
    pending: Iterable[int],
    *,
    threads: int,
    on_record: Callable[[BlockRecord], None],
    stop: Callable[[], bool] = lambda: False,
) -> list[BlockFailure]:
    """Compute and commit the `pending` blocks of `job`; returns those that failed.

    on_record: called in this thread for every block as it finishes, in no set order.
    stop: asked after every block; once true, blocks under way are finished and no more begun.
    A block that fails is tried once more with a fresh image handle, and a last time alone when
    the others are done.

    Raises whatever concerns every block, such as OutputError when the disk is full.
    """
    # The first worker is made here, in the driver: a model that can't be loaded is then an
    # error of the command, not of a block.
    worker_for(job)
    try:
        with local_client(threads) as client:
            failed = _stream(client, job, pending, threads * _IN_FLIGHT_PER_THREAD, on_record, stop)
            for last in (False, True):
                if not failed or stop():
                    break
                release(job)
                again = [failure.index for failure in failed]
                in_flight = 1 if last else threads * _IN_FLIGHT_PER_THREAD
                failed = _stream(client, job, again, in_flight, on_record, stop)
            return failed
    finally:
        release(job)


def _stream(
    client: Any,
    job: Job,
    pending: Iterable[int],
    in_flight: int,
    on_record: Callable[[BlockRecord], None],
    stop: Callable[[], bool],
) -> list[BlockFailure]:
    from distributed import as_completed

    failures: list[BlockFailure] = []
    todo = iter(pending)

    def submit() -> Any | None:
        index = next(todo, None)
        return None if index is None else client.submit(compute_block, job, index, pure=False)

    first = [future for future in (submit() for _ in range(in_flight)) if future is not None]
    completed = as_completed(first)
    for future in completed:
        outcome = future.result()
        future.release()
        if isinstance(outcome, BlockRecord):
            on_record(outcome)
        elif isinstance(outcome, BlockFailure):
            failures.append(outcome)
        if stop():
            worker_for(job).stopping.set()
        elif (following := submit()) is not None:
            completed.add(following)
    return failures
