"""Blocks through Dask: a bounded number in flight, records back, no pixels ever.

Only public `Client.submit`, plain arguments and no annotations: these are what keeps the
scheduler's own queueing on (see docs/design).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dask
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, as_completed

from tilseg import infer
from tilseg.errors import ResourceError, TilsegError
from tilseg.infer import BlockFailure, Job, compute_block
from tilseg.journal import BadTile, BlockRecord

# Enough to keep every thread busy while the driver is away, few enough that little is lost.
_IN_FLIGHT_PER_THREAD = 3
# In a worker process: one thread predicts, one reads ahead, one writes behind.
_THREADS_PER_PROCESS = 3
_CONNECT_SECONDS = 10

_DIED = "the worker process died"

Outcome = BlockRecord | BlockFailure | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where blocks are computed.

    kind: "threads" of this process, "processes" of this machine, or an "external" scheduler.
    workers: threads, or processes; an external scheduler's are its own.
    scheduler: its address (tcp://host:port) or the path of its file.
    """

    kind: Literal["threads", "processes", "external"] = "threads"
    workers: int = 3
    scheduler: str | None = None


IN_PROCESS = Cluster()


def run_blocks(
    job: Job,
    pending: Iterable[int],
    *,
    cluster: Cluster = IN_PROCESS,
    mask_bad: bool = False,
    alone: Iterable[int] = (),
    on_begin: Callable[[int], None] = lambda _: None,
    on_record: Callable[[BlockRecord], None],
    stop: Callable[[], bool] = lambda: False,
) -> list[BlockFailure]:
    """Compute and commit the `pending` blocks of `job`; returns those that failed.

    on_begin, on_record: called in this thread when a block is handed out and when it is done,
        in no set order.
    stop: asked after every block; once true, what is in the network is finished, no more begun.
    mask_bad: at the last attempt, commit what can be computed of a block and leave the rest as
        nodata. alone: blocks to try last, one at a time in a process of their own, because
        their like has killed one before.

    A block that fails is tried once more with a fresh image handle, and a last time with no
    other block beside it. Raises whatever concerns every block, such as a full disk.
    """
    attempts = _Attempts(job, on_begin, on_record, stop)
    failed: list[BlockFailure] = []
    infer.stop(False)
    try:
        with connect(job, cluster) as (client, threads):
            failed = attempts.stream(client, pending, threads * _IN_FLIGHT_PER_THREAD)
            if failed and not stop():
                client.run(infer.release, job)
                failed = attempts.stream(client, _indices(failed), threads)
            if failed and not stop():
                failed = attempts.stream(client, _indices(failed), 1, mask_bad=mask_bad)
        suspects = [*alone, *(failure.index for failure in failed if _killed(failure))]
        if suspects and not stop():
            failed = [failure for failure in failed if not _killed(failure)]
            with connect(job, Cluster("processes", 1)) as (client, _):
                failed += attempts.stream(client, suspects, 1, mask_bad=mask_bad)
        return failed
    finally:
        infer.release(job)


class _Attempts:
    """Hands blocks of one run to a client, a bounded number at a time."""

    def __init__(
        self,
        job: Job,
        on_begin: Callable[[int], None],
        on_record: Callable[[BlockRecord], None],
        stop: Callable[[], bool],
    ) -> None:
        self.job = job
        self.on_begin = on_begin
        self.on_record = on_record
        self.stop = stop

    def stream(
        self, client: Any, pending: Iterable[int], in_flight: int, *, mask_bad: bool = False
    ) -> list[BlockFailure]:
        """Compute `pending` with at most `in_flight` handed out; returns what failed."""
        failures: list[BlockFailure] = []
        todo = iter(pending)
        indices: dict[str, int] = {}
        completed = as_completed()

        def submit() -> None:
            index = next(todo, None)
            if index is not None:
                self.on_begin(index)
                future = client.submit(compute_block, self.job, index, mask_bad, pure=False)
                indices[future.key] = index
                completed.add(future)

        for _ in range(in_flight):
            submit()
        stopping = False
        for future in completed:
            outcome = self._outcome(future, indices.pop(future.key))
            future.release()
            if isinstance(outcome, BlockRecord):
                self.on_record(outcome)
            elif isinstance(outcome, BlockFailure):
                failures.append(outcome)
            if not stopping and self.stop():
                stopping = True
                client.run(infer.stop)
            if not stopping:
                submit()
        return failures

    def _outcome(self, future: Any, index: int) -> Outcome:
        try:
            outcome: Outcome = future.result()
        except KilledWorker:
            window = self.job.plan.grid.block_at(index).write
            return BlockFailure(index, (BadTile(window, _DIED),))
        return outcome


def _killed(failure: BlockFailure) -> bool:
    return any(tile.reason == _DIED for tile in failure.bad)


def _indices(failures: Iterable[BlockFailure]) -> list[int]:
    return sorted(failure.index for failure in failures)


@contextmanager
def connect(job: Job, cluster: Cluster) -> Iterator[tuple[Any, int]]:
    """A client whose workers have all been checked against `job`, and their threads in all.

    Raises ResourceError E-SCHEDULER when there is no scheduler, E-WORKER-VERSION when a worker
    has other versions, ModelError E-MODEL-CHANGED when it sees another model.
    """
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(_SETTINGS))
        if cluster.kind == "external":
            client = stack.enter_context(_external(cluster.scheduler or ""))
        else:
            local = stack.enter_context(LocalCluster(**_local(cluster)))
            client = stack.enter_context(Client(local))
        _wait_for_workers(client)
        client.run(infer.stop, False)
        client.register_plugin(_Check(job), name=_CHECK)
        try:
            yield client, sum(client.nthreads().values())
        finally:
            client.unregister_worker_plugin(_CHECK)
            client.run(infer.release, job)


_CHECK = "tilseg-check"


class _Check(WorkerPlugin):  # type: ignore[misc]  # distributed is not typed
    """Makes every worker ready as it joins; one that is not as the driver is does not stay."""

    def __init__(self, job: Job) -> None:
        self.job = job

    async def setup(self, worker: Any) -> None:
        try:
            # In a thread: loading a network would stop the worker's heart for a second.
            await asyncio.to_thread(infer.worker_for, self.job)
        except TilsegError:
            worker.loop.add_callback(worker.close, reason="tilseg-check")
            raise


def _wait_for_workers(client: Any) -> None:
    try:
        client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
    except TimeoutError:
        raise ResourceError("E-SCHEDULER", reason="the scheduler has no workers") from None


# Memory is bounded by the plan; Dask's own limits would pause a worker for ever. A prediction
# may hold a thread for seconds, which is not worth a warning.
_SETTINGS = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.admin.tick.limit": "1h",
    "distributed.comm.timeouts.connect": f"{_CONNECT_SECONDS}s",
    "distributed.scheduler.allowed-failures": 2,
}


def _local(cluster: Cluster) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "dashboard_address": None,
        "silence_logs": logging.CRITICAL,
        "host": "127.0.0.1",
    }
    if cluster.kind == "threads":
        inside = {"processes": False, "protocol": "inproc://", "host": None}
        return settings | inside | {"n_workers": 1, "threads_per_worker": cluster.workers}
    return settings | {
        "processes": True,
        "n_workers": cluster.workers,
        "threads_per_worker": _THREADS_PER_PROCESS,
        "memory_limit": 0,
    }


@contextmanager
def _external(scheduler: str) -> Iterator[Any]:
    is_file = not scheduler.startswith(("tcp://", "tls://", "ws://", "ucx://"))
    where = {"scheduler_file": scheduler} if is_file else {"address": scheduler}
    if is_file and not Path(scheduler).is_file():
        raise ResourceError("E-SCHEDULER", reason=f"{scheduler}: no such scheduler file")
    try:
        client = Client(**where, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        reason = f"no scheduler answers at {scheduler} ({type(error).__name__})"
        raise ResourceError("E-SCHEDULER", reason=reason) from error
    try:
        yield client
    finally:
        client.close()
