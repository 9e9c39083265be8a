"""`tilseg.run`: carry out a plan, resume it, publish it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tilseg.card import Card, read_card
from tilseg.errors import (
    BlocksFailed,
    DamageError,
    ExistsError,
    InputError,
    OutputError,
    Stopped,
    UsageError,
)
from tilseg.fingerprint import adopt, differences, fingerprint, plan_from_json, plan_to_json
from tilseg.finish import Finisher, Phase
from tilseg.infer import BlockFailure, Job, versions
from tilseg.journal import BadTile, BlockRecord, Journal
from tilseg.plan import Plan
from tilseg.receipt import bad_tiles
from tilseg.schedule import IN_PROCESS, Cluster, run_blocks
from tilseg.sinks.zarr import MaskStore
from tilseg.source import Source, open_source
from tilseg.workspace import Workspace

OUTPUTS = ("zarr", "tif")
# A block that was under way at this many deaths of its driver is tried in a process of its own.
_SUSPECT_DEATHS = 2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase is: `done` of `total` pixels."""

    phase: Phase
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did.

    status: "complete", or "degraded" when tiles had to be left as nodata. computed: whether
    anything was done now; False when the result was there already. done: blocks computed now;
    skipped: taken over from an earlier start. bad: the tiles left as nodata. summary: the
    content of summary.json.
    """

    status: Literal["complete", "degraded"]
    output: Path
    computed: bool
    done: int
    skipped: int
    bad: tuple[BadTile, ...]
    summary: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a plan is carried out; nothing here changes a pixel that can be computed.

    outputs: some of "zarr" (mask.zarr) and "tif" (mask.tif). cluster: where blocks run.
    batch: tiles in one call of the network. overwrite: replace a result or an unfinished run
    that differs; the old one stays until the new one is complete. on_bad_tile: "fail" publishes
    nothing when a tile can't be computed, "mask" leaves it as nodata and names it.
    """

    outputs: tuple[str, ...] = OUTPUTS
    cluster: Cluster = IN_PROCESS
    batch: int = 1
    overwrite: bool = False
    on_bad_tile: Literal["fail", "mask"] = "fail"

    def __post_init__(self) -> None:
        for name in self.outputs:
            if name not in OUTPUTS:
                raise UsageError("E-OPTION", option="outputs", value=name, allowed="zarr, tif")


def run(
    plan: Plan,
    output: str | os.PathLike[str],
    *,
    outputs: Sequence[str] = OUTPUTS,
    cluster: Cluster = IN_PROCESS,
    batch: int = 1,
    overwrite: bool = False,
    on_bad_tile: Literal["fail", "mask"] = "fail",
    progress: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> RunReport:
    """Segment the plan's image into the directory `output`, e.g. slide.tilseg, or into one file,
    slide.tif or slide.zarr, with its receipt beside it.

    Blocks that an earlier, interrupted call finished are checked and kept; a finished result
    of the same plan is left alone. Nothing bears the final name until all of it is written,
    read back and on the disk. See `RunOptions` for the options.

    progress: called in this thread as phases advance. stop: asked after every block; once
    true, the run ends within a block and can be continued.

    Raises ExistsError (exit 10), LockedError (11), BlocksFailed (5), OutputError (7),
    InputError (4), ModelError (6), ResourceError (8) and Stopped (75).
    """
    space = Workspace(Path(output).absolute())
    if space.single:
        outputs = [Path(space.single).suffix.removeprefix(".")]
    options = RunOptions(tuple(outputs), cluster, batch, overwrite, on_bad_tile)
    source = open_source(plan.source)
    try:
        _check_apart(space.final, source.identity().get("path"))
        space.check_parent()
        with space.locked():
            return _Run(space, plan, source, options, progress, stop).carry_out()
    finally:
        source.close()


def _check_apart(final: Path, image: str | None) -> None:
    """The output must not be the input file, lie in it or hold it."""
    if image is None:
        return
    real, target = Path(image).resolve(), final.resolve()
    if real == target or real.is_relative_to(target) or target.is_relative_to(real):
        raise OutputError("E-OUTPUT-INPUT", path=final, input=image)


class _Run:
    """One start of one run, from the look at what is there to the publication."""

    def __init__(
        self,
        space: Workspace,
        plan: Plan,
        source: Source,
        options: RunOptions,
        progress: Callable[[Progress], None],
        stop: Callable[[], bool],
    ) -> None:
        self.space = space
        self.plan = plan
        self.source = source
        self.options = options
        self.progress = progress
        self.stop = stop
        self.identity = source.identity()
        self.card: Card = read_card(plan.model)
        self.store_path = space.result / "mask.zarr"
        self.began = time.perf_counter()

    def carry_out(self) -> RunReport:
        self.space.repair()
        finished = self._finished()
        if finished is not None:
            return finished
        self._begin_or_resume()
        journal = Journal(self.space.journal)
        try:
            skipped = self._keep_what_holds(journal)
            began = time.perf_counter()
            self._predict(journal)
        finally:
            journal.close()
            if not journal.records:
                # Ended before its first block: there is nothing to continue.
                self.space.discard()
        return self._publish(journal.records, skipped, time.perf_counter() - began)

    def _prints(self, plan: Plan) -> dict[str, Any]:
        return fingerprint(plan, self.identity, self.options.outputs)

    def _finished(self) -> RunReport | None:
        """The report of a result that is there already and is this run's."""
        receipt = self.space.receipt()
        if receipt is None:
            return None
        plan = adopt(self.plan, plan_from_json(receipt["plan"]))
        differ = differences(receipt["fingerprint"], self._prints(plan))
        if not differ and receipt["status"] == "degraded" and self.options.on_bad_tile == "fail":
            differ = "on-bad-tile (mask -> fail)"
        if self.options.overwrite:
            return None
        if differ:
            raise ExistsError("E-EXISTS", path=self.space.final, fields=differ)
        summary = receipt["summary"]
        bad = bad_tiles(receipt)
        blocks = len(plan.grid)
        return RunReport(receipt["status"], self.space.final, False, 0, blocks, bad, summary)

    def _begin_or_resume(self) -> None:
        """Take over an unfinished run that is the same, or begin a new one."""
        unfinished = self.space.unfinished()
        if unfinished is not None:
            plan = adopt(self.plan, plan_from_json(unfinished["plan"]))
            differ = differences(unfinished["fingerprint"], self._prints(plan))
            if not differ:
                self.plan = plan
                return
            if not self.options.overwrite:
                raise ExistsError("E-PARTIAL", path=self.space.partial, fields=differ)
        self.space.begin({"fingerprint": self._prints(self.plan), "plan": plan_to_json(self.plan)})

    def _keep_what_holds(self, journal: Journal) -> int:
        """Drop from the journal every block that does not read back as it says, and, unless
        they may stay, those with tiles left out; returns how many blocks are kept."""
        grid = self.plan.grid
        store = MaskStore.create(self.store_path, grid.shape, grid.block)
        store.sweep()
        for index, record in list(journal.records.items()):
            may_stay = not record.bad or self.options.on_bad_tile == "mask"
            if not (may_stay and index < len(grid) and _holds(store, self.plan, record)):
                del journal.records[index]
        return len(journal.records)

    def _predict(self, journal: Journal) -> None:
        """Compute every block the journal lacks."""
        grid = self.plan.grid
        total = grid.shape.area
        done = sum(grid.block_at(index).write.size.area for index in journal.records)
        self.progress(Progress("predict", done, total))

        def on_record(record: BlockRecord) -> None:
            nonlocal done
            journal.append(record)
            done += grid.block_at(record.index).write.size.area
            self.progress(Progress("predict", done, total))

        pending = [index for index in range(len(grid)) if index not in journal.records]
        if not pending:
            return
        alone = [index for index in pending if journal.deaths[index] >= _SUSPECT_DEATHS]
        journal.begin_driver()
        failed = run_blocks(
            Job(self.plan, str(self.store_path), versions(), self.options.batch),
            [index for index in pending if index not in set(alone)],
            cluster=self.options.cluster,
            mask_bad=self.options.on_bad_tile == "mask",
            alone=alone,
            on_begin=journal.begin,
            on_record=on_record,
            stop=self.stop,
        )
        if len(journal.records) < len(grid):
            self._give_up(failed, len(journal.records))

    def _give_up(self, failed: list[BlockFailure], done: int) -> None:
        total = len(self.plan.grid)
        if self.stop():
            raise Stopped("E-STOPPED", done=done, total=total)
        tiles = [tile for failure in failed for tile in failure.bad]
        first = min(tiles, key=lambda tile: tile.window)
        raise BlocksFailed(
            "E-BLOCKS-FAILED",
            failed=len(failed),
            total=total,
            tiles=len(tiles),
            first=f"{first.window}: {first.reason}",
        )

    def _publish(self, records: dict[int, BlockRecord], skipped: int, predict: float) -> RunReport:
        finisher = Finisher(
            self.space.result,
            self.plan,
            self.source,
            self.card,
            self._prints(self.plan),
            bool(self.space.single),
            self._report,
        )
        began = time.perf_counter()
        finisher.write_masks(records, self.options.outputs)
        now = time.perf_counter()
        summary = finisher.write_texts(
            records,
            skipped=skipped,
            seconds={"predict": predict, "finish": now - began, "total": now - self.began},
        )
        self._recheck_input()
        self.space.publish()
        bad = tuple(tile for index in sorted(records) for tile in records[index].bad)
        status: Literal["complete", "degraded"] = "degraded" if bad else "complete"
        done = len(records) - skipped
        return RunReport(status, self.space.final, True, done, skipped, bad, summary)

    def _report(self, phase: Phase, done: int, total: int) -> None:
        self.progress(Progress(phase, done, total))
        if self.stop():
            blocks = len(self.plan.grid)
            raise Stopped("E-STOPPED", done=blocks, total=blocks)

    def _recheck_input(self) -> None:
        now = self.source.identity()
        fields = [name for name in now if now[name] != self.identity.get(name)]
        if fields:
            raise InputError("E-INPUT-CHANGED", path=self.plan.source, fields=", ".join(fields))


def _holds(store: MaskStore, plan: Plan, record: BlockRecord) -> bool:
    try:
        return store.block_crc(plan.grid.block_at(record.index).write) == record.crc
    except DamageError:
        return False
