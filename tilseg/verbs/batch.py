"""Many images one after the other: the next one begins, and the last one ends, beside the network.

Three images at most are open at once. One is in the network, in this thread. The next one is
planned and what is there of it is read back in a second thread; the one before is published in a
third. Each is a run of its own, with its own lock, so that machines can share a folder of results.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tilseg.batches.naming import BatchImage
from tilseg.batches.record import Record, Records
from tilseg.batches.thumbnail import thumbnail
from tilseg.card import file_sha256
from tilseg.errors import LockedError, Stopped, TilsegError
from tilseg.names import file_names, is_address
from tilseg.ownership import check_apart
from tilseg.plan import Plan
from tilseg.schedule import Workers
from tilseg.verbs.stages import Start
from tilseg.verbs.terms import Progress, RunOptions, RunReport
from tilseg.workspace import Workspace

_FOR_ALL = {
    "E-OUTPUT-WRITE",
    "E-NO-CUDA",
    "E-SCHEDULER",
    "E-WORKER-VERSION",
    "E-WORKERS-DIED",
}


class Watch(Protocol):
    """Who is told how a batch goes, from several threads; computed: now, and not found done."""

    def begun(self, image: BatchImage) -> None: ...
    def progress(self, progress: Progress) -> None: ...
    def ended(self, image: BatchImage, record: Record, *, computed: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Order:
    """What a batch does with each image.

    plan: makes the plan of one. request: what is asked for it; see `tilseg.batches.request`.
    explain: any exception as one of the tree. break_lock: see `tilseg.run`.
    """

    plan: Callable[[BatchImage], Plan]
    request: Callable[[BatchImage], str]
    explain: Callable[[Exception], TilsegError]
    options: RunOptions
    break_lock: bool = False


@dataclass(frozen=True, slots=True)
class _Ready:
    """An image that waits for the network, and all that is let go of when it is done."""

    image: BatchImage
    start: Start
    held: ExitStack


class Batch:
    """Segments images into results whose records go to `records`.

    workers: of the cluster in `order`, begun for the first image and kept for the others. stop:
    asked several times a second, from any thread. held: after `carry_out`, the results that others
    are still at work on, and who.
    """

    def __init__(
        self,
        records: Records,
        order: Order,
        workers: Workers,
        watch: Watch,
        stop: Callable[[], bool],
    ) -> None:
        self.records = records
        self.order = order
        self.workers = workers
        self.watch = watch
        self.held: dict[Path, str] = {}
        self._stop_asked = stop
        self._ended = 0
        # What would meet every other image too.
        self._fatal: Exception | None = None

    def carry_out(self, images: Sequence[BatchImage]) -> None:
        """Every image once; those that others own are looked at again at the end.

        Raises Stopped E-BATCH-STOPPED (75), and whatever concerns every image, such as a full
        disk. An image's own error is in its record.
        """
        left = list(images)
        while left:
            before = len(left)
            self.held.clear()
            self._pass(left)
            if self._fatal is not None:
                raise self._fatal
            if self._stop_asked():
                raise Stopped("E-BATCH-STOPPED", done=self._ended, total=len(images))
            left = [image for image in left if image.output in self.held]
            if len(left) == before:
                break

    def stop(self) -> bool:
        """Whether to end as soon as can be."""
        return self._fatal is not None or self._stop_asked()

    def _pass(self, images: Iterable[BatchImage]) -> None:
        with (
            ThreadPoolExecutor(1, "ahead") as ahead,
            ThreadPoolExecutor(1, "behind") as behind,
            closing(self._prepared(ahead, images)) as prepared,
        ):
            finishing: Future[None] | None = None
            for ready in prepared:
                self.watch.begun(ready.image)
                if not self._predict(ready):
                    continue
                if finishing is not None:
                    finishing.result()
                finishing = behind.submit(self._finish, ready)
            if finishing is not None:
                finishing.result()

    def _prepared(
        self, ahead: ThreadPoolExecutor, images: Iterable[BatchImage]
    ) -> Generator[_Ready]:
        """Images ready for the network; the next is on its way while one is in it."""
        todo = iter(images)

        def ask() -> Future[_Ready | None] | None:
            image = None if self.stop() else next(todo, None)
            return None if image is None else ahead.submit(self._prepare, image)

        coming = ask()
        try:
            while coming is not None:
                ready, coming = coming.result(), ask()
                if ready is not None:
                    yield ready
        finally:
            if coming is not None and (left := coming.result()) is not None:
                left.held.close()

    def _prepare(self, image: BatchImage) -> _Ready | None:
        """Own an image, plan it, and read back what is there of it; None where that is its end."""
        with ExitStack() as held:
            try:
                space = Workspace(image.output)
                inputs = [name for name in file_names(image.image) if not is_address(name)]
                check_apart(space.places, map(Path, inputs))
                space.check_parent()
                held.enter_context(space.lock.held(take_over=self.order.break_lock))
                plan = self.order.plan(image)
                start = Start(space, plan, self.order.options, self._progress, self.stop)
                held.enter_context(start)
                report = start.look()
                if report is not None:
                    self._note(image, start, report)
                    return None
                held.callback(start.leave)
                start.begin()
            except Exception as error:
                self._fail(image, error)
                return None
            return _Ready(image, start, held.pop_all())

    def _predict(self, ready: _Ready) -> bool:
        """Compute the blocks of an image; False where it ends there."""
        try:
            try:
                ready.start.predict(self.workers)
            finally:
                ready.start.leave()
        except Exception as error:
            with ready.held:
                self._fail(ready.image, error)
            return False
        return True

    def _finish(self, ready: _Ready) -> None:
        # The record is there before the lock is gone: whoever takes it then finds nothing to do.
        with ready.held:
            try:
                report = ready.start.publish()
                self._note(ready.image, ready.start, report)
            except Exception as error:
                self._fail(ready.image, error)

    def _progress(self, progress: Progress) -> None:
        # What else goes on is of other images.
        if progress.phase == "predict":
            self.watch.progress(progress)

    def _note(self, image: BatchImage, start: Start, report: RunReport) -> None:
        assert report.status != "unfinished"
        small = thumbnail(image.output, start.plan, start.card)
        self._end(
            image,
            Record(
                image=image.image,
                output=self.records.name(image.output),
                status=report.status,
                seconds=report.summary["seconds"]["total"],
                request=self.order.request(image),
                receipt=file_sha256(start.space.receipt_file),
                summary=report.summary,
                thumbnail=base64.b64encode(small).decode(),
            ),
            computed=report.computed,
        )

    def _fail(self, image: BatchImage, error: Exception) -> None:
        if isinstance(error, Stopped):
            return
        if isinstance(error, LockedError):
            self.held[image.output] = str(error.facts["owner"])
            return
        known = self.order.explain(error)
        if known.id in _FOR_ALL:
            self._fatal = error
            return
        output = self.records.name(image.output)
        failed = Record(image.image, output, "failed", known.id, known.message)
        self._end(image, failed, computed=True)

    def _end(self, image: BatchImage, record: Record, *, computed: bool) -> None:
        self.records.write(record)
        self._ended += 1
        self.watch.ended(image, record, computed=computed)
