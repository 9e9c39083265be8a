"""Blocks through Dask: a bounded number in flight, records back, no pixels ever.

Only public `Client.submit`, plain arguments and no annotations: these are what keeps the
scheduler's own queueing on (see docs/design).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from typing import Any

from distributed import KilledWorker, as_completed

from tilseg import infer
from tilseg.errors import ResourceError
from tilseg.infer import BlockFailure, Job, compute_block
from tilseg.journal import BadTile, BlockRecord
from tilseg.schedule.cluster import IN_PROCESS, SPAWN_SECONDS, Cluster, StopAsked, Workers

# Enough to keep every thread busy while the driver is away, few enough that little is lost.
_IN_FLIGHT_PER_THREAD = 3
_STOP_SECONDS = 0.1
_LOOK_SECONDS = 5.0

_DIED = "its process died whenever it was computed"

Outcome = BlockRecord | BlockFailure | None


def run_blocks(
    job: Job,
    pending: Iterable[int],
    *,
    cluster: Cluster = IN_PROCESS,
    workers: Workers | None = None,
    mask_bad: bool = False,
    alone: Iterable[int] = (),
    on_begin: Callable[[int], None] = lambda _: None,
    on_record: Callable[[BlockRecord], None],
    stop: Callable[[], bool] = lambda: False,
) -> list[BlockFailure]:
    """Compute and commit the `pending` blocks of `job`; returns those that failed.

    on_begin, on_record: called in this thread when a block is handed out and when it is done,
        in no set order.
    workers: those to use, of `cluster`, instead of own ones.
    stop: asked several times a second, from a thread of its own; once true, what is in the
        network is finished, no more begun.
    mask_bad: at the last attempt, commit what can be computed of a block and leave the rest as
        nodata. alone: blocks to try last, one at a time in a process of their own, because
        they were under way whenever one died.

    A block that fails is tried once more with a fresh image handle, and a last time with no
    other block beside it. One that was under way at two deaths of a process is tried in a
    process of its own, twice; it fails when both die. Raises whatever concerns every block,
    such as a full disk, and ResourceError E-WORKERS-DIED when no worker process stays alive.
    """
    attempts = _Attempts(job, on_begin, on_record, stop, mask_bad)
    failed: list[BlockFailure] = []
    try:
        with ExitStack() as stack:
            kept = workers or stack.enter_context(Workers(cluster))
            client, threads = stack.enter_context(kept.serving(job, stop))
            failed = attempts.in_company(client, pending, threads)
        suspects = sorted({*alone, *_killers(failed)})
        if suspects and not stop():
            failed = [failure for failure in failed if not _killed(failure)]
            own = cluster if cluster.kind == "external" else Cluster("processes", 1)
            with Workers(own) as one, one.serving(job, stop) as (client, _):
                failed += attempts.stream(client, suspects, 1, last=True)
        if not mask_bad or stop():
            return failed
        for index in _killers(failed):
            on_record(infer.leave_out(job, index, _DIED))
        return [failure for failure in failed if not _killed(failure)]
    except StopAsked:
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
            client.run(infer.release, self.job, on_error="ignore")
            failed = self.stream(client, _indices(failed), threads)
        if failed and not self.stop():
            failed = self.stream(client, _indices(failed), 1, last=True)
        return killed + failed

    def stream(
        self, client: Any, pending: Iterable[int], in_flight: int, *, last: bool = False
    ) -> list[BlockFailure]:
        """Compute `pending` with at most `in_flight` handed out; returns what failed."""
        failures: list[BlockFailure] = []
        todo = iter(pending)
        indices: dict[Any, int] = {}
        completed = as_completed()

        def submit() -> None:
            index = next(todo, None)
            if index is not None:
                self.on_begin(index)
                mask_bad = last and self.mask_bad
                future = client.submit(compute_block, self.job, index, mask_bad, pure=False)
                indices[future] = index
                completed.add(future)

        with _watched(client, self.job, self.stop, indices):
            for _ in range(in_flight):
                submit()
            for future in completed:
                outcome = self._outcome(future, indices.pop(future))
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
        except CancelledError:
            raise ResourceError("E-WORKERS-DIED") from None
        return outcome


@contextmanager
def _watched(
    client: Any, job: Job, stop: Callable[[], bool], futures: dict[Any, int]
) -> Iterator[None]:
    """Pass a wish to stop on to the workers as it comes, and an error inside likewise; cancel
    all that waits for workers of this machine when there have been none for long."""
    done = threading.Event()
    mine = client.cluster is not None

    def watch() -> None:
        seen = looked = time.monotonic()
        while not done.wait(_STOP_SECONDS):
            if stop():
                client.run(infer.stop, job, on_error="ignore")
                return
            now = time.monotonic()
            if mine and now - looked > _LOOK_SECONDS:
                looked = now
                seen = now if client.nthreads() else seen
                if now - seen > SPAWN_SECONDS:
                    client.cancel(list(futures))

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
