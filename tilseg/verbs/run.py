"""`tilseg.run`: carry out a plan, resume it, publish it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from tilseg.plan import Plan
from tilseg.schedule import IN_PROCESS, Cluster
from tilseg.shard import Shard
from tilseg.verbs.shards import carry_out_shard
from tilseg.verbs.stages import Start
from tilseg.verbs.terms import OUTPUTS, Progress, RunOptions, RunReport
from tilseg.workspace import Workspace

__all__ = ["OUTPUTS", "Progress", "RunOptions", "RunReport", "run"]


def run(
    plan: Plan,
    output: str | os.PathLike[str],
    *,
    outputs: Sequence[str] = OUTPUTS,
    cluster: Cluster = IN_PROCESS,
    overwrite: bool = False,
    break_lock: bool = False,
    on_bad_tile: Literal["fail", "mask"] = "fail",
    shard: tuple[int, int] | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> RunReport:
    """Segment the plan's image into the directory `output`, e.g. slide.tilseg, or into one file,
    slide.tif or slide.zarr, with its receipt beside it.

    Blocks that an earlier, interrupted call finished are checked and kept; a finished result
    of the same plan is left alone. Nothing bears the final name until all of it is written,
    read back and on the disk. See `RunOptions` for the options.

    break_lock: own the output even where another run seems to; that one ends as soon as it
        looks. shard: (3, 20) computes the third of twenty parts of the blocks; the last of the
        twenty to end publishes, and the report of the others is "unfinished". progress: called in this thread as phases advance. stop: asked several times a
        second, from any thread; once true, the run ends within a block and can be continued.

    What the run finds and does about an earlier one goes to the logger "tilseg".

    Raises ExistsError (exit 10), LockedError (11), BlocksFailed (5), OutputError (7),
    InputError (4), ModelError (6), ResourceError (8) and Stopped (75).
    """
    space = Workspace(Path(output).resolve())
    options = RunOptions(tuple(outputs), cluster, overwrite, on_bad_tile)
    with Start(space, plan, options, progress, stop) as start:
        if shard is not None:
            return carry_out_shard(start, Shard(*shard), break_lock=break_lock)
        with space.lock.held(take_over=break_lock):
            return start.carry_out()
