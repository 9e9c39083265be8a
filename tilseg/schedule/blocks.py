"""The blocks of a run through Dask: three attempts, and what kills its process apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from typing import Any

from distributed import wait

from tilseg import infer
from tilseg.infer import BlockFailure, Job
from tilseg.journal import DIED, BlockRecord
from tilseg.schedule.cluster import IN_PROCESS, Cluster, Workers
from tilseg.schedule.stream import Pass
from tilseg.schedule.telling import StopAsked, tell

# For a copy of a block that is there to end of itself, once it is asked to stop.
_SETTLE_SECONDS = 5.0


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

    def passes(client: Any, where: Cluster) -> Pass:
        return Pass(client, job, where.is_here, on_begin, on_record, stop)

    failed: list[BlockFailure] = []
    try:
        with ExitStack() as stack:
            kept = workers or stack.enter_context(Workers(cluster))
            client = stack.enter_context(kept.serving(job, stop))
            failed = _in_company(passes(client, cluster), pending, mask_bad)
        suspects = sorted({*alone, *_killers(failed)})
        if suspects and not stop():
            failed = [failure for failure in failed if not _killed(failure)]
            own = Cluster("processes", 1) if cluster.is_here else cluster
            with Workers(own) as one, one.serving(job, stop) as client:
                failed += passes(client, own).over(suspects, mask_bad=mask_bad, most=1)[0]
        if not mask_bad or stop():
            return failed
        for index in _killers(failed):
            on_record(infer.leave_out(job, index, DIED))
        return [failure for failure in failed if not _killed(failure)]
    except StopAsked:
        return failed
    finally:
        infer.release(job)


def _in_company(blocks: Pass, pending: Iterable[int], mask_bad: bool) -> list[BlockFailure]:
    """Three attempts; those that seem to kill their process get no further one here."""
    failed, copies = blocks.over(pending)
    killed = [failure for failure in failed if _killed(failure)]
    failed = [failure for failure in failed if not _killed(failure)]
    if failed and not blocks.stop():
        tell(blocks.client, infer.release, blocks.job)
        failed, more = blocks.over(_indices(failed))
        copies += more
    if failed and not blocks.stop():
        failed, _ = blocks.over(_indices(failed), mask_bad=mask_bad, most=1)
    if copies:
        tell(blocks.client, infer.stop, blocks.job)
        with suppress(TimeoutError):
            wait(copies, timeout=_SETTLE_SECONDS)
    return killed + failed


def _killed(failure: BlockFailure) -> bool:
    return any(tile.reason == DIED for tile in failure.bad)


def _killers(failures: Iterable[BlockFailure]) -> list[int]:
    return _indices(failure for failure in failures if _killed(failure))


def _indices(failures: Iterable[BlockFailure]) -> list[int]:
    return sorted(failure.index for failure in failures)
