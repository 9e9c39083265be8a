"""`tilseg.run`: carry out a plan, resume it, publish it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tilseg.card import Card, read_card
from tilseg.errors import BlocksFailed, ExistsError, InputError, OutputError, UsageError
from tilseg.fingerprint import adopt, differences, fingerprint, plan_from_json, plan_to_json
from tilseg.infer import Job
from tilseg.journal import BlockRecord, Journal
from tilseg.plan import Plan
from tilseg.planning import DEFAULT_WORKERS
from tilseg.receipt import receipt, summarise
from tilseg.schedule import run_blocks
from tilseg.sink import load_sink, windows_of
from tilseg.sinks.zarr import MaskStore
from tilseg.source import Source, open_source
from tilseg.window import Size
from tilseg.workspace import RECEIPT, Workspace, write_durably

OUTPUTS = ("zarr", "tif")
# Read-back goes by windows of this side, whatever the block is.
_READ_BACK = Size(2048, 2048)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase is: `done` of `total` pixels."""

    phase: Literal["predict", "pyramid", "tif", "check"]
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did.

    status: "complete", or "already complete" when the result was there. done: blocks computed
    now; skipped: taken over from an earlier start. summary: the content of summary.json.
    """

    status: Literal["complete", "already complete"]
    output: Path
    done: int
    skipped: int
    summary: dict[str, Any] = field(repr=False)


def run(
    plan: Plan,
    output: str | os.PathLike[str],
    *,
    outputs: Sequence[str] = OUTPUTS,
    workers: int = DEFAULT_WORKERS,
    batch: int = 1,
    overwrite: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> RunReport:
    """Segment the plan's image into the directory `output`, e.g. slide.tilseg.

    Blocks that an earlier, interrupted call finished are checked and kept; a finished result
    of the same plan is left alone. Nothing bears the final name until all of it is written,
    read back and on the disk.

    outputs: some of "zarr" (mask.zarr) and "tif" (mask.tif). workers: blocks under way at once.
    batch: tiles in one call of the network. overwrite: replace a result or an unfinished run
    that differs; the old one stays until the new one is complete.

    Raises ExistsError (exit 10), LockedError (11), BlocksFailed (5), OutputError (7),
    InputError (4) and ModelError (6).
    """
    for name in outputs:
        if name not in OUTPUTS:
            raise UsageError("E-OPTION", option="--outputs", value=name, allowed="zarr, tif")
    space = Workspace(Path(output).absolute())
    source = open_source(plan.source)
    try:
        _check_apart(space.final, plan.source)
        space.check_parent()
        with space.locked():
            started = _Run(space, plan, source, tuple(outputs), progress)
            return started.carry_out(workers, batch, overwrite)
    finally:
        source.close()


def _check_apart(final: Path, image: str) -> None:
    """The output must not be the input, lie in it or hold it."""
    if not os.path.exists(image):
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
        outputs: tuple[str, ...],
        progress: Callable[[Progress], None],
    ) -> None:
        self.space = space
        self.plan = plan
        self.source = source
        self.outputs = outputs
        self.progress = progress
        self.identity = source.identity()
        self.card: Card = read_card(plan.model)
        self.store_path = space.result / "mask.zarr"
        self.began = time.perf_counter()

    @property
    def prints(self) -> dict[str, Any]:
        return fingerprint(self.plan, self.identity, self.outputs)

    def carry_out(self, workers: int, batch: int, overwrite: bool) -> RunReport:
        self.space.repair()
        finished = self._finished(overwrite)
        if finished is not None:
            return finished
        self._begin_or_resume(overwrite)
        journal = Journal(self.space.journal)
        try:
            skipped = self._keep_what_holds(journal)
            predict = self._predict(journal, workers, batch)
            records = journal.records
        finally:
            journal.close()
        summary = self._finish(records, skipped, predict)
        self._recheck_input()
        self.space.publish()
        done = len(records) - skipped
        return RunReport("complete", self.space.final, done, skipped, summary)

    def _finished(self, overwrite: bool) -> RunReport | None:
        """The report of a result that is there already and is this run's."""
        receipt = self.space.receipt()
        if receipt is None:
            return None
        plan = adopt(self.plan, plan_from_json(receipt["plan"]))
        differ = differences(receipt["fingerprint"], fingerprint(plan, self.identity, self.outputs))
        if not differ:
            summary = json.loads((self.space.final / "summary.json").read_text())
            blocks = len(plan.grid)
            return RunReport("already complete", self.space.final, 0, blocks, summary)
        if not overwrite:
            raise ExistsError("E-EXISTS", path=self.space.final, fields=differ)
        return None

    def _begin_or_resume(self, overwrite: bool) -> None:
        """Take over an unfinished run that is the same, or begin a new one."""
        unfinished = self.space.unfinished()
        if unfinished is not None:
            plan = adopt(self.plan, plan_from_json(unfinished["plan"]))
            differ = differences(
                unfinished["fingerprint"], fingerprint(plan, self.identity, self.outputs)
            )
            if not differ:
                self.plan = plan
                return
            if not overwrite:
                raise ExistsError("E-PARTIAL", path=self.space.partial, fields=differ)
        self.space.begin({"fingerprint": self.prints, "plan": plan_to_json(self.plan)})

    def _keep_what_holds(self, journal: Journal) -> int:
        """Drop from the journal every block that does not read back as it says."""
        if not self.store_path.exists():
            journal.records.clear()
            MaskStore.create(self.store_path, self.plan.grid.shape, self.plan.grid.block)
            return 0
        store = MaskStore.open(self.store_path)
        store.sweep()
        grid = self.plan.grid
        for index, record in list(journal.records.items()):
            if store.block_crc(grid.block_at(index).write) != record.crc:
                del journal.records[index]
        return len(journal.records)

    def _predict(self, journal: Journal, workers: int, batch: int) -> float:
        """Compute every block the journal lacks; returns the seconds it took."""
        began = time.perf_counter()
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
        if pending:
            job = Job(self.plan, str(self.store_path), batch)
            failed = run_blocks(job, pending, threads=workers, on_record=on_record)
            if failed:
                first = min(failed, key=lambda failure: failure.index)
                raise BlocksFailed(
                    "E-BLOCKS-FAILED",
                    failed=len(failed),
                    total=len(grid),
                    first=f"{first.window}: {first.reason}",
                )
        return time.perf_counter() - began

    def _finish(
        self, records: dict[int, BlockRecord], skipped: int, predict: float
    ) -> dict[str, Any]:
        """Pyramid, exports, read-back, summary and receipt, all still in the workspace."""
        began = time.perf_counter()
        store = MaskStore.open(self.store_path)
        level = self.source.levels[self.plan.level]
        georef = self.source.georef.decimated(level.row_factor, level.col_factor)
        store.finish(
            name=Path(self.plan.source).stem,
            classes=self.card.classes,
            georef=georef,
            background=self.card.background,
            progress=self._report("pyramid"),
        )
        self._check_store(store, records)
        if "tif" in self.outputs:
            target = self.space.result / "mask.tif"
            target.unlink(missing_ok=True)
            sink = load_sink("geotiff" if georef.is_map else "ometiff")
            sink.write(store, target, self._report("tif"))
            self._check_export(store, target)
        if "zarr" not in self.outputs:
            shutil.rmtree(self.store_path)
        now = time.perf_counter()
        summary = summarise(
            self.plan,
            self.source,
            self.card,
            records.values(),
            skipped=skipped,
            seconds={"predict": predict, "finish": now - began, "total": now - self.began},
        )
        self._write_texts(summary, records)
        return summary

    def _write_texts(self, summary: dict[str, Any], records: dict[int, BlockRecord]) -> None:
        result = self.space.result
        write_durably(result / "summary.json", json.dumps(summary, indent=1))
        content = receipt(
            self.prints,
            plan_to_json(self.plan),
            self.source,
            self.card,
            records.values(),
            result,
        )
        write_durably(result / RECEIPT, json.dumps(content, indent=1))

    def _report(self, phase: Literal["pyramid", "tif", "check"]) -> Callable[[int, int], None]:
        return lambda done, total: self.progress(Progress(phase, done, total))

    def _check_store(self, store: MaskStore, records: dict[int, BlockRecord]) -> None:
        for index, record in records.items():
            if store.block_crc(self.plan.grid.block_at(index).write) != record.crc:
                raise OutputError("E-OUTPUT-READBACK", path=self.store_path)

    def _check_export(self, store: MaskStore, path: Path) -> None:
        """Every pixel of an exported file, read by its reader, against the committed mask."""
        report = self._report("check")
        exported = open_source(path)
        try:
            done = 0
            for window in windows_of(store.shape, _READ_BACK):
                if not (exported.read(window)[..., 0] == store.read(window)).all():
                    raise OutputError("E-OUTPUT-READBACK", path=path)
                done += window.size.area
                report(done, store.shape.area)
        except InputError as error:
            raise OutputError("E-OUTPUT-READBACK", path=path) from error
        finally:
            exported.close()

    def _recheck_input(self) -> None:
        now = self.source.identity()
        fields = [name for name in now if now[name] != self.identity.get(name)]
        if fields:
            raise InputError("E-INPUT-CHANGED", path=self.plan.source, fields=", ".join(fields))
