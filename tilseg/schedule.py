"""Blocks through Dask: a bounded number in flight, records back, no pixels ever.

Only public `Client.submit`, plain arguments and no annotations: these are what keeps the
scheduler's own queueing on (see docs/design).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import resource_tracker
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

_SPAWN_SECONDS = 120
_STOP_SECONDS = 0.1

_DIED = "its process died whenever it was computed"

Outcome = BlockRecord | BlockFailure | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where blocks are computed.

    kind: "threads" of this process, "processes" of this machine, or an "external" scheduler.
    workers: threads, or processes; an external scheduler's are its own.
    scheduler: its address (tcp://host:port) or the path of its file. gpus: names of CUDA
        devices, as CUDA_VISIBLE_DEVICES has them, that worker processes take in turn.
    """

    kind: Literal["threads", "processes", "external"] = "threads"
    workers: int = 3
    scheduler: str | None = None
    gpus: tuple[str, ...] = ()


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
    stop: asked several times a second, from a thread of its own; once true, what is in the
        network is finished, no more begun.
    mask_bad: at the last attempt, commit what can be computed of a block and leave the rest as
        nodata. alone: blocks to try last, one at a time in a process of their own, because
        they were under way whenever one died.

    A block that fails is tried once more with a fresh image handle, and a last time with no
    other block beside it. One that was under way at two deaths of a process is tried in a
    process of its own, twice; it fails when both die. Raises whatever concerns every block,
    such as a full disk.
    """
    attempts = _Attempts(job, on_begin, on_record, stop, mask_bad)
    try:
        with connect(job, cluster) as (client, threads):
            failed = attempts.in_company(client, pending, threads)
        suspects = sorted({*alone, *_killers(failed)})
        if suspects and not stop():
            failed = [failure for failure in failed if not _killed(failure)]
            own = cluster if cluster.kind == "external" else Cluster("processes", 1)
            with connect(job, own) as (client, _):
                failed += attempts.stream(client, suspects, 1, last=True)
        if not mask_bad or stop():
            return failed
        for index in _killers(failed):
            on_record(infer.leave_out(job, index, _DIED))
        return [failure for failure in failed if not _killed(failure)]
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
        mask_bad: bool,
    ) -> None:
        self.job = job
        self.on_begin = on_begin
        self.on_record = on_record
        self.stop = stop
        self.mask_bad = mask_bad

    def in_company(self, client: Any, pending: Iterable[int], threads: int) -> list[BlockFailure]:
        """Three attempts; those that seem to kill their process get no further one here."""
        failed = self.stream(client, pending, threads * _IN_FLIGHT_PER_THREAD)
        killed = [failure for failure in failed if _killed(failure)]
        failed = [failure for failure in failed if not _killed(failure)]
        if failed and not self.stop():
            client.run(infer.release, self.job)
            failed = self.stream(client, _indices(failed), threads)
        if failed and not self.stop():
            failed = self.stream(client, _indices(failed), 1, last=True)
        return killed + failed

    def stream(
        self, client: Any, pending: Iterable[int], in_flight: int, *, last: bool = False
    ) -> list[BlockFailure]:
        """Compute `pending` with at most `in_flight` handed out; returns what failed."""
        with _stopping(client, self.job, self.stop):
            return self._stream(client, pending, in_flight, last and self.mask_bad)

    def _stream(
        self, client: Any, pending: Iterable[int], in_flight: int, mask_bad: bool
    ) -> list[BlockFailure]:
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
        for future in completed:
            outcome = self._outcome(future, indices.pop(future.key))
            future.release()
            if isinstance(outcome, BlockRecord):
                self.on_record(outcome)
            elif isinstance(outcome, BlockFailure):
                failures.append(outcome)
            if not self.stop():
                submit()
        return failures

    def _outcome(self, future: Any, index: int) -> Outcome:
        try:
            outcome: Outcome = future.result()
        except KilledWorker:
            window = self.job.plan.grid.block_at(index).write
            return BlockFailure(index, (BadTile(window, _DIED),))
        return outcome


@contextmanager
def _stopping(client: Any, job: Job, stop: Callable[[], bool]) -> Iterator[None]:
    """Pass a wish to stop on to the workers as it comes, and an error inside likewise."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_STOP_SECONDS):
            if stop():
                client.run(infer.stop, job, on_error="ignore")
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    except BaseException:
        client.run(infer.stop, job, on_error="ignore")
        raise
    finally:
        done.set()
        watcher.join()


def _killed(failure: BlockFailure) -> bool:
    return any(tile.reason == _DIED for tile in failure.bad)


def _killers(failures: Iterable[BlockFailure]) -> list[int]:
    return _indices(failure for failure in failures if _killed(failure))


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
            client = stack.enter_context(_local(cluster, job))
        _wait_for_workers(client, cluster)
        # An earlier driver that was killed may have left an image open there.
        client.run(infer.release, job)
        client.register_plugin(_Check(job, cluster.gpus), name=_CHECK)
        try:
            yield client, sum(client.nthreads().values())
        finally:
            client.unregister_worker_plugin(_CHECK)
            # A worker that dies meanwhile has nothing left to release.
            client.run(infer.release, job, on_error="ignore")


_CHECK = "tilseg-check"


class _Check(WorkerPlugin):  # type: ignore[misc]  # distributed is not typed
    """Makes every worker ready as it joins; one that is not as the driver is does not stay."""

    def __init__(self, job: Job, gpus: tuple[str, ...]) -> None:
        self.job = job
        self.gpus = gpus

    async def setup(self, worker: Any) -> None:
        if self.gpus:
            # Heard as long as this process has not used CUDA. Local workers are called 0, 1, ...
            mine = self.gpus[int(worker.name) % len(self.gpus)]
            os.environ["CUDA_VISIBLE_DEVICES"] = mine
        try:
            # In a thread: loading a network would stop the worker's heart for a second.
            await asyncio.to_thread(infer.worker_for, self.job)
        except TilsegError:
            worker.loop.add_callback(worker.close, reason="tilseg-check")
            raise


def _wait_for_workers(client: Any, cluster: Cluster) -> None:
    seconds = _CONNECT_SECONDS if cluster.kind == "external" else _SPAWN_SECONDS
    try:
        client.wait_for_workers(1, timeout=seconds)
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
    # Locks would guard scratch that nothing is ever written to.
    "distributed.worker.use-file-locking": False,
    # Two deaths, and a block is tried alone. An external scheduler has its own number.
    "distributed.scheduler.allowed-failures": 1,
    "distributed.comm.timeouts.connect": f"{_CONNECT_SECONDS}s",
}


@contextmanager
def _local(cluster: Cluster, job: Job) -> Iterator[Any]:
    """A cluster of this machine for one run, and a client of it."""
    settings: dict[str, Any] = {
        # None would still open port 8787, on every interface.
        "dashboard_address": "127.0.0.1:0",
        "worker_dashboard_address": "127.0.0.1:0",
        "silence_logs": logging.CRITICAL,
        "n_workers": 0,
        # Beside the store, so that what a killed run leaves goes with the workspace.
        "local_directory": str(Path(job.folder).parent),
    }
    if cluster.kind == "threads":
        settings |= {"processes": False, "protocol": "inproc://", "n_workers": 1}
        settings |= {"threads_per_worker": cluster.workers}
    else:
        settings |= {"processes": True, "host": "127.0.0.1", "memory_limit": 0}
        settings |= {"threads_per_worker": _THREADS_PER_PROCESS}
    with ExitStack() as stack:
        with _signals_held() if cluster.kind == "processes" else nullcontext():
            local = stack.enter_context(LocalCluster(**settings))
        if cluster.kind == "processes":
            local.scale(cluster.workers)
        yield stack.enter_context(Client(local))


# What asks a run to stop. Terminals and SLURM send it to every process of the run.
_GROUP_SIGNALS = {
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
    if hasattr(signal, name)
}


@contextmanager
def _signals_held() -> Iterator[None]:
    """Threads begun inside, and every process that they begin, never see a group's signals.

    A cluster begins its workers from a thread of its own, and a signal mask is inherited: so
    workers are deaf from their first instruction on, and the driver, whose main thread hears
    again at the end, lets them finish. They die with the driver by the pipe that Dask holds.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _GROUP_SIGNALS)
    try:
        # Begun by the first process that is, it would make that thread hear two of them again.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _GROUP_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
