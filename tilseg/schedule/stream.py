"""One pass over the blocks of a run: handed out, computed, collected as they come back.

Only public `Client.submit` and plain arguments. Which worker gets which block is decided here,
for Dask knows neither which blocks are neighbours nor that one may be computed twice. So it is
decided here too who gets what a worker had in hand that died: Dask would keep a task that asks
for a worker which never comes again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from distributed import KilledWorker

from tilseg import infer
from tilseg.errors import ResourceError
from tilseg.infer import BlockFailure, Job, compute_block
from tilseg.journal import DIED, BadTile, BlockRecord
from tilseg.schedule.allotment import Allotment, Hand
from tilseg.schedule.cluster import SPAWN_SECONDS
from tilseg.schedule.telling import tell

_STOP_SECONDS = 0.1
# How often to look which workers there are, and what is late.
_MEET_SECONDS = 1.0

# How long a worker has to tell of a block that it has done.
_TELL_SECONDS = 2.0

Outcome = BlockRecord | BlockFailure | None


@dataclass(frozen=True, slots=True)
class Pass:
    """What all passes over the blocks of one run have in common.

    on_begin, on_record, stop: as of `run_blocks`. here: whether the workers are processes or
    threads of this machine, which when there are none for long will not come any more.
    """

    client: Any
    job: Job
    here: bool
    on_begin: Callable[[int], None]
    on_record: Callable[[BlockRecord], None]
    stop: Callable[[], bool]

    def over(
        self, blocks: Iterable[int], *, mask_bad: bool = False, most: int | None = None
    ) -> tuple[list[BlockFailure], list[Any]]:
        """Compute `blocks`, at most `most` at a time.

        Returns those that failed, and futures of copies of others that are still under way.
        """
        stream = _Stream(self, blocks, mask_bad, most)
        with self._watched():
            while stream.goes_on():
                stream.hand_out()
                stream.collect()
        return stream.failures, stream.copies

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Pass a wish to stop on to the workers as it comes, and an error inside likewise."""
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(done,), daemon=True)
        watcher.start()
        try:
            yield
        except BaseException:
            tell(self.client, infer.stop, self.job)
            raise
        finally:
            done.set()
            watcher.join()

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(_STOP_SECONDS):
            if self.stop():
                tell(self.client, infer.stop, self.job)
                return


class _Stream:
    """The state of one pass. handed: futures of what is in the hands of workers."""

    def __init__(self, run: Pass, blocks: Iterable[int], mask_bad: bool, most: int | None) -> None:
        self._run = run
        self._mask_bad = mask_bad
        self._allotment = Allotment(blocks, time.monotonic(), most)
        self._back: SimpleQueue[Any] = SimpleQueue()
        # What is done, by workers that hang before they have told of what.
        self._untold: deque[Any] = deque()
        self._met = 0.0
        self._seen = time.monotonic()
        self.handed: dict[Any, Hand] = {}
        self.failures: list[BlockFailure] = []
        self.copies: list[Any] = []

    def goes_on(self) -> bool:
        """Whether there is something to wait for."""
        if self._run.stop():
            # What waits for workers that may never come can wait for the next start too.
            return bool(self.handed and self._workers())
        return bool(self._allotment.left())

    def hand_out(self) -> None:
        """Give the workers that there are what they have room for."""
        if self._run.stop():
            return
        now = time.monotonic()
        if now - self._met > _MEET_SECONDS:
            self._meet(now)
        for hand in self._allotment.hand_out(now):
            if hand.moved_from is not None:
                self._take_from(hand.moved_from).release()
            self._submit(hand)

    def _workers(self) -> dict[str, int]:
        """The workers that there are now, and the threads of each."""
        try:
            found: dict[str, int] = self._run.client.nthreads()
        except OSError as error:
            raise _no_scheduler() from error
        return found

    def _meet(self, now: float) -> None:
        """See who has come and who is gone."""
        self._met = now
        workers = self._workers()
        self._seen = now if workers else self._seen
        if self._run.here and now - self._seen > SPAWN_SECONDS:
            raise ResourceError("E-WORKERS-DIED")
        lost, killers = self._allotment.meet(workers)
        for hand in lost:
            self._take_from(hand).release()
        self.failures += [self._died(index) for index in killers]

    def _died(self, index: int) -> BlockFailure:
        window = self._run.job.plan.grid.window_at(index)
        return BlockFailure(index, (BadTile(window, DIED),))

    def _submit(self, hand: Hand) -> None:
        self._run.on_begin(hand.index)
        future = self._run.client.submit(
            compute_block,
            self._run.job,
            hand.index,
            self._mask_bad,
            pure=False,
            workers=[hand.worker],
        )
        self.handed[future] = hand
        future.add_done_callback(self._back.put)

    def _take_from(self, hand: Hand) -> Any:
        """The future of a hand, which is waited for no more."""
        future = next(future for future, other in self.handed.items() if other is hand)
        del self.handed[future]
        return future

    def collect(self) -> None:
        """Wait for one block to come back, not for long."""
        try:
            future = self._back.get(timeout=_MEET_SECONDS)
        except Empty:
            if not self._untold:
                return
            future = self._untold.popleft()
        hand = self.handed.get(future)
        if hand is None:
            return
        try:
            outcome = self._outcome(future, hand.index)
        except TimeoutError:
            # Asked again when nothing else comes, unless a copy of the block is back before.
            self._untold.append(future)
            return
        del self.handed[future]
        future.release()
        done = isinstance(outcome, BlockRecord)
        others = self._allotment.take_back(hand, time.monotonic(), done=done)
        if isinstance(outcome, BlockRecord):
            self._run.on_record(outcome)
            self.copies += [self._take_from(other) for other in others]
        elif isinstance(outcome, BlockFailure) and not others:
            self.failures.append(outcome)

    def _outcome(self, future: Any, index: int) -> Outcome:
        try:
            outcome: Outcome = future.result(timeout=_TELL_SECONDS)
        except KilledWorker:
            # Of a worker that comes back under the same address.
            return self._died(index)
        except CancelledError as error:
            raise _no_scheduler() from error
        except UnboundLocalError as error:
            # Dask's own waiting was cancelled, as on a machine that hardly gets to it
            # (dask/distributed#8514): nothing is known of the block yet.
            raise TimeoutError from error
        return outcome


def _no_scheduler() -> ResourceError:
    return ResourceError("E-SCHEDULER", reason="the scheduler does not answer any more")
