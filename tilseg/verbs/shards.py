"""Several processes on one image without a scheduler: each its blocks, the last one the rest.

All share a workspace, and each has a journal and a lock of its own in it. The workspace's own lock
is held to join, for a moment, and to publish: so one of them makes it, and one of them publishes.
Whatever the shards did, publishing is an ordinary start that finds all blocks there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tilseg.errors import InputError, LockedError, Stopped
from tilseg.fingerprint import plan_from_json
from tilseg.shard import Shard
from tilseg.verbs.stages import Start, blocks_done
from tilseg.verbs.terms import Progress, RunOptions, RunReport, finished_report
from tilseg.workspace import Workspace

# To join takes tenths of a second, but hundreds of tasks may begin together, and the first may have
# to measure what is not exact.
_JOIN_SECONDS = 900.0
_LOOK_SECONDS = 5.0


def carry_out_shard(start: Start, shard: Shard, *, break_lock: bool = False) -> RunReport:
    """Compute the blocks of `shard`; publish too if all others are there then.

    Raises as `tilseg.run`.
    """
    with ExitStack() as working:
        with ExitStack() as joining:
            if not _own(start, joining):
                return start.unfinished()
            finished = start.look(shard)
            if finished is not None:
                return finished
            lock = start.join(shard)
            working.enter_context(lock.held(take_over=break_lock))
        try:
            start.begin_part(shard)
            start.predict()
        finally:
            start.leave()
    return _publish_if_last(start)


def _own(start: Start, held: ExitStack) -> bool:
    """Own the workspace as long as `held` is open; False where it is being published.

    Raises LockedError E-LOCKED, Stopped E-STOPPED.
    """
    end = time.monotonic() + _JOIN_SECONDS
    while True:
        try:
            held.enter_context(start.space.lock.held(wait=_LOOK_SECONDS))
        except LockedError:
            done, total = blocks_done(start.space)
            if done == total > 0:
                return False
            if start.stop():
                raise Stopped("E-STOPPED", done=done, total=total) from None
            if time.monotonic() > end:
                raise
        else:
            return True


def _publish_if_last(start: Start) -> RunReport:
    """Every shard looks when its own journal is on the disk, so one of them finds all of them."""
    if not start.all_done():
        return start.unfinished()
    with ExitStack() as publishing:
        return start.carry_out() if _own(start, publishing) else start.unfinished()


def finish_shards(
    output: str | os.PathLike[str],
    *,
    break_lock: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> RunReport:
    """Publish the run of `output`, all of whose blocks are done; a result that is there is left.

    The last shard does this by itself, unless it was killed meanwhile. Options as of `tilseg.run`,
    which it raises as; also Stopped E-UNFINISHED (75) while blocks are missing, and InputError
    E-FINISH-NOTHING (4) where there is no run.
    """
    space = Workspace(Path(output).resolve())
    space.check_parent()
    unfinished = space.unfinished()
    if unfinished is None:
        receipt = space.receipt()
        if receipt is None:
            raise InputError("E-FINISH-NOTHING", path=space.final)
        return finished_report(space.final, receipt)
    done, total = blocks_done(space)
    if done < total:
        raise Stopped("E-UNFINISHED", path=space.final, done=done, total=total)
    plan = plan_from_json(unfinished["plan"])
    outputs = tuple(unfinished["fingerprint"]["outputs"])
    # What was left out was left out on purpose.
    options = RunOptions(outputs, on_bad_tile="mask")
    with (
        Start(space, plan, options, progress, stop) as start,
        space.lock.held(take_over=break_lock),
    ):
        return start.carry_out()
