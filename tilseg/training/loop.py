"""The training loop: batches read ahead, steps, validations at even shares, an end."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic

from torch import Tensor

from tilseg.training.scores import Scores
from tilseg.training.trainer import Trainer

Batch = tuple[Tensor, Tensor]

_AHEAD = 2  # batches prepared while one is learnt


@dataclass(frozen=True, slots=True)
class Progress:
    """What a training tells while it runs.

    done: share of the training, 0 to 1. loss: smoothed over about 50 steps. rate: million
    labelled pixels a second. left: seconds to go. scores: where a validation just ended.
    """

    step: int
    done: float
    loss: float
    rate: float
    left: float
    scores: Scores | None


def run(
    trainer: Trainer,
    make_batch: Callable[[int], Batch],
    check: Callable[[float], Scores],
    *,
    report: Callable[[Progress], None],
    stop: Callable[[], bool],
    enough: Callable[[], bool] = lambda: False,
) -> bool:
    """Train to the end, or until `stop` says so between two steps; whether the end was reached.

    make_batch: the batch of a step, prepared ahead in one thread. check: validates and keeps
    what is worth keeping, and is told the rate so far, in million pixels a second; called at even
    shares of the training and at its end. enough: whether no more of it is of use.
    """
    checked = _checks_due(trainer)
    began = monotonic() - trainer.seconds
    learnt, learning = 0, 0.0
    with contextlib.closing(_ahead(make_batch, trainer.step)) as batches:
        while trainer.done < 1 and not enough():
            if stop():
                return False
            asked = monotonic()
            pixels, labels = next(batches)
            trainer.learn(pixels, labels)
            learnt, learning = learnt + labels.numel(), learning + monotonic() - asked
            trainer.seconds = monotonic() - began
            rate, scores = learnt / learning / 1e6, None
            if _checks_due(trainer) > checked:
                checked = _checks_due(trainer)
                scores = check(rate)
                trainer.seconds = monotonic() - began
            report(_progress(trainer, rate, scores))
    return True


def _checks_due(trainer: Trainer) -> int:
    return math.floor(trainer.done * trainer.config.schedule.validations)


def _ahead(make_batch: Callable[[int], Batch], first: int) -> Generator[Batch, None, None]:
    """Batches of the steps from `first` on, without end, a few prepared in a thread."""
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[Batch]] = []
        step = first
        try:
            while True:
                while len(waiting) < _AHEAD:
                    waiting.append(pool.submit(make_batch, step))
                    step += 1
                yield waiting.pop(0).result()
        finally:
            pool.shutdown(cancel_futures=True)


def _progress(trainer: Trainer, rate: float, scores: Scores | None) -> Progress:
    left = trainer.seconds * (1 - trainer.done) / trainer.done
    return Progress(trainer.step, trainer.done, trainer.loss, rate, left, scores)
