"""One start of one run, in stages that may run in different threads: look, begin, predict, publish."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Self

from tilseg.card import Card, read_card
from tilseg.disk import Need, check_disk, needed, tree_bytes
from tilseg.errors import (
    BlocksFailed,
    ExistsError,
    InputError,
    LockedError,
    Stopped,
)
from tilseg.exactness import inexactness
from tilseg.fingerprint import adopt, differences, fingerprint, plan_from_json, plan_to_json
from tilseg.finish import Finisher, Phase
from tilseg.heap import give_back_freed_memory
from tilseg.infer import BlockFailure, Job, versions
from tilseg.journal import BlockRecord, Journal, finished_blocks
from tilseg.lock import Lock
from tilseg.nodata import NODATA
from tilseg.ownership import check_apart
from tilseg.plan import Plan
from tilseg.polygons.formats import check_formats
from tilseg.regions.measuring import Measuring
from tilseg.resume import keep_sound, tidy
from tilseg.schedule import Workers, run_blocks
from tilseg.shard import Shard
from tilseg.source import Source
from tilseg.sources.planned import open_planned
from tilseg.stores import MASK, Stores
from tilseg.verbs.terms import Progress, RunOptions, RunReport, finished_report, for_one_file
from tilseg.where.chosen import skipped_blocks
from tilseg.workspace import Workspace

_log = logging.getLogger("tilseg")

# A block that was under way at this many deaths of its driver is tried in a process of its own.
_SUSPECT_DEATHS = 2


class Start:
    """One start of one run, from the look at what is there to the publication.

    The stages are `look`, `begin`, `predict` and `publish`, in this order and all under the
    workspace's lock; `leave` ends those before `publish`. A context, which closes the image.

    progress: called in the thread of each stage. stop: asked in it, and from others.

    Raises, before anything is written, UsageError, InputError, OutputError and ModelError for a
    plan that can't be carried out there.
    """

    def __init__(
        self,
        space: Workspace,
        plan: Plan,
        options: RunOptions,
        progress: Callable[[Progress], None] = lambda _: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.space = space
        self.plan, self.options = for_one_file(space, plan, options)
        self.progress = progress
        self.stop = stop
        self.card: Card = read_card(plan.model)
        self.source: Source = open_planned(plan)
        try:
            self._check()
            self.identity = self.source.identity()
        except BaseException:
            self.source.close()
            raise
        self.inexact: dict[str, Any] | None = None
        self.journal: Journal | None = None
        # The blocks that are this driver's to do, and the lock that says so.
        self.part = range(len(plan.grid))
        self.lock: Lock = space.lock
        # Whether others are at work there now.
        self._accompanied = False
        # Those that it has done.
        self.mine: set[int] = set()
        self.kept = 0
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.source.close()

    def _check(self) -> None:
        check_formats(self.plan.regions)
        # Refuses a least area in a unit that the mask does not have.
        Measuring.of_run(self.plan, self.source, self.card, NODATA)
        inputs = [*self.source.files, Path(self.plan.model), *self.plan.selection.files]
        check_apart(self.space.places, inputs)
        self.space.check_parent()

    def carry_out(self) -> RunReport:
        """All stages, one after the other."""
        finished = self.look()
        if finished is not None:
            return finished
        try:
            self.begin()
            self.predict()
        finally:
            self.leave()
        # What is finished now takes memory of its own, beside what the network had.
        give_back_freed_memory()
        return self.publish()

    def look(self, shard: Shard | None = None) -> RunReport | None:
        """Mend what an earlier start left half done; the report of a result that is this run's.

        shard: this is one of several drivers.

        Raises LockedError E-LOCKED where shards are at work, unless this is one or all is done.
        """
        try:
            self.space.check_no_shard()
            self.space.repair()
        except LockedError:
            if shard is None and not self.all_done():
                raise
            self._accompanied = shard is not None
            self.space.repair(join=self._accompanied)
        return self._finished()

    def begin(self) -> None:
        """Take over an unfinished run, or begin a new one; read back what is there of it."""
        self._set_up()
        self.part, self.lock = range(len(self.plan.grid)), self.space.lock
        self._take_stock(self.space.journal())

    def join(self, shard: Shard) -> Lock:
        """Become one of several drivers of a run, whose lock, returned, is to be taken at once."""
        self._set_up()
        self.part = shard.part(len(self.plan.grid))
        self.lock = self.space.shard_lock(shard.name)
        return self.lock

    def begin_part(self, shard: Shard) -> None:
        """Read back what is there of the shard's blocks, whoever computed them."""
        self._take_stock(self.space.journal(shard.name))

    def _set_up(self) -> None:
        check_disk(self.space.final, self._need(), tree_bytes(self.space.partial))
        self._begin_or_resume()
        if not self._accompanied:
            tidy(self.space.result, self.stores, self.plan)
        Stores.create(self.stores, self.plan, len(self.card.classes))

    def _take_stock(self, path: Path) -> None:
        """Leave in the journal the blocks that are there and sound."""
        began = time.perf_counter()
        others = [each for each in self.space.journals() if each != path]
        self.journal = journal = Journal(path, others)
        before = sum(index in self.part for index in journal.records)
        keep_sound(
            Stores.open(self.stores, self.plan),
            self.plan,
            journal,
            self.part,
            keep_bad=self.options.on_bad_tile == "mask",
            progress=lambda done, total: self._report("recover", done, total, len(journal.records)),
        )
        kept = len(journal.records)
        if before:
            again = f"; {before - kept:,} are computed again" if kept < before else ""
            total = len(self.part)
            _log.info("resuming: %s of %s blocks verified%s", f"{kept:,}", f"{total:,}", again)
        self.kept = sum(
            record.skipped is None and record.index not in self.mine
            for record in journal.records.values()
        )
        self.seconds["begin"] += time.perf_counter() - began

    def all_done(self) -> bool:
        """Whether the journals name every block of the unfinished run."""
        done, total = blocks_done(self.space)
        return done == total

    def unfinished(self) -> RunReport:
        """The report of a shard that leaves the rest to others."""
        done, total = blocks_done(self.space)
        blocks = {"blocks": {"total": total, "done": done}}
        where = self.space.final
        return RunReport("unfinished", where, True, len(self.mine), self.kept, (), blocks)

    def predict(self, workers: Workers | None = None) -> None:
        """Compute every block that is not there yet, by `workers` if some are kept."""
        assert self.journal is not None
        began = time.perf_counter()
        self._predict(self.journal, workers)
        self.seconds["predict"] += time.perf_counter() - began

    def leave(self) -> None:
        """Close the journal, and forget a run that ends before its first block."""
        if self.journal is None or self.journal.closed:
            return
        self.journal.close()
        if not self.journal.records and self.space.lock.is_mine():
            self.space.discard()

    @property
    def stores(self) -> Path:
        """Folder of the stores; one that is no output is there until the result is published."""
        return (
            self.space.result if "zarr" in self.options.outputs else self.space.partial / "stores"
        )

    def _prints(self, plan: Plan) -> dict[str, Any]:
        return fingerprint(plan, self.identity, self.options.outputs)

    def _need(self, level0: int = 0) -> Need:
        classes = len(self.card.classes)
        is_map = self.source.georef.is_map
        outputs = self.options.outputs
        return needed(self.plan, classes, outputs, is_map=is_map, level0=level0)

    def _finished(self) -> RunReport | None:
        """The report of a result that is there already and is this run's."""
        if self.options.overwrite:
            self.space.check_replaceable()
            return None
        receipt = self.space.receipt()
        if receipt is None:
            return None
        plan = adopt(self.plan, plan_from_json(receipt["plan"]))
        differ = differences(receipt["fingerprint"], self._prints(plan))
        if not differ and receipt["status"] == "degraded" and self.options.on_bad_tile == "fail":
            differ = "on-bad-tile (mask -> fail)"
        missing = self.space.missing(receipt)
        if missing:
            differ = differ or f"{missing[0]} (missing)"
        if differ:
            raise ExistsError("E-EXISTS", path=self.space.final, fields=differ)
        self.space.discard_same(receipt["fingerprint"])
        return finished_report(self.space.final, receipt)

    def _begin_or_resume(self) -> None:
        """Take over an unfinished run that is the same, or begin a new one."""
        unfinished = self._unfinished()
        if unfinished is not None:
            plan = adopt(self.plan, plan_from_json(unfinished["plan"]))
            differ = differences(unfinished["fingerprint"], self._prints(plan))
            if not differ:
                self.plan = plan
                self.inexact = unfinished["inexact"]
                return
            if not self.options.overwrite:
                raise ExistsError("E-PARTIAL", path=self.space.partial, fields=differ)
        self.inexact = inexactness(self.plan, self.source, self.card)
        content = {"fingerprint": self._prints(self.plan), "plan": plan_to_json(self.plan)}
        self.space.begin(content | {"inexact": self.inexact})

    def _unfinished(self) -> dict[str, Any] | None:
        try:
            return self.space.unfinished()
        except ExistsError:
            if self.options.overwrite:
                return None
            raise

    def _predict(self, journal: Journal, workers: Workers | None) -> None:
        """Compute every block of the part that the journal lacks."""
        grid = self.plan.grid
        skipped = skipped_blocks(self.plan.selection, grid)

        def pixels(index: int) -> int:
            return 0 if index in skipped else grid.window_at(index).size.area

        total, done = sum(map(pixels, self.part)), sum(map(pixels, journal.records))
        self.progress(Progress("predict", done, total))

        def on_record(record: BlockRecord) -> None:
            nonlocal done
            self.lock.check()
            journal.append(record)
            self.mine.add(record.index)
            done += pixels(record.index)
            self.progress(Progress("predict", done, total))

        pending = [index for index in self.part if index not in journal.records]
        if not pending:
            return
        self._end_if_asked(len(journal.records))
        alone = {index for index in pending if journal.deaths[index] >= _SUSPECT_DEATHS}
        journal.begin_driver()
        failed = run_blocks(
            Job(self.plan, str(self.stores), versions()),
            [index for index in pending if index not in alone],
            cluster=self.options.cluster,
            workers=workers,
            mask_bad=self.options.on_bad_tile == "mask",
            alone=alone,
            on_begin=journal.begin,
            on_record=on_record,
            stop=self.stop,
        )
        if len(journal.records) < len(self.part):
            self._give_up(failed, len(journal.records))

    def _give_up(self, failed: list[BlockFailure], done: int) -> None:
        self._end_if_asked(done)
        # A file that is being written over is the cause, not the tiles that it spoils.
        self._recheck_input()
        tiles = [tile for failure in failed for tile in failure.bad]
        first = min(tiles, key=lambda tile: tile.window)
        raise BlocksFailed(
            "E-BLOCKS-FAILED",
            failed=len(failed),
            total=len(self.part),
            tiles=len(tiles),
            first=f"{first.window}: {first.reason}",
        )

    def publish(self) -> RunReport:
        """Make the files of the result from its blocks, and give it its name."""
        assert self.journal is not None
        records, kept = self.journal.records, self.kept
        records.sort()
        level0 = tree_bytes(self.stores / MASK / "0" / "c")
        check_disk(self.space.final, self._need(level0), level0)
        finisher = Finisher(
            self.space.result,
            self.stores,
            self.plan,
            self.source,
            self.card,
            Measuring.of_run(self.plan, self.source, self.card, NODATA),
            self.options.outputs,
            self.inexact,
            self._prints(self.plan),
            bool(self.space.single),
            lambda phase, done, total: self._report(phase, done, total, len(self.part)),
        )
        # What is read of it from here on, for the regions and the report, is not told by bad tiles.
        self._recheck_input()
        began = time.perf_counter()
        finisher.write_masks(records)
        measured = finisher.write_regions(records)
        finisher.write_report(records, measured)
        finish = time.perf_counter() - began
        seconds = {"predict": self.seconds["predict"], "finish": finish}
        seconds["total"] = self.seconds["begin"] + sum(seconds.values())
        regions = None if measured is None else measured[1]
        summary = finisher.summary(records, regions, kept=kept, seconds=seconds)
        finisher.write_texts(records, summary)
        self._recheck_input()
        self.space.publish()
        bad = tuple(tile for record in records.values() for tile in record.bad)
        status: Literal["complete", "degraded"] = "degraded" if bad else "complete"
        done = summary["blocks"]["done"]
        return RunReport(status, self.space.final, True, done, kept, bad, summary)

    def _report(self, phase: Phase, done: int, total: int, blocks: int) -> None:
        self.progress(Progress(phase, done, total))
        self._end_if_asked(blocks)

    def _end_if_asked(self, blocks: int) -> None:
        if self.stop():
            raise Stopped("E-STOPPED", done=blocks, total=len(self.part))

    def _recheck_input(self) -> None:
        try:
            now = self.source.identity()
        except (OSError, InputError) as error:
            fields = "it can't be read any more"
            raise InputError("E-INPUT-CHANGED", path=self.plan.source, fields=fields) from error
        changed = [name for name in now if now[name] != self.identity.get(name)]
        if changed:
            fields = ", ".join(changed)
            raise InputError("E-INPUT-CHANGED", path=self.plan.source, fields=fields)


def blocks_done(space: Workspace) -> tuple[int, int]:
    """Blocks done, of all, of an unfinished run; (0, 0) where there is none."""
    unfinished = space.unfinished()
    if unfinished is None:
        return 0, 0
    return len(finished_blocks(space.journals())), len(plan_from_json(unfinished["plan"]).grid)
