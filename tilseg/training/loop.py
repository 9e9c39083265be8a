"""The training loop: AdamW, a cosine, an average of the weights, whole-image validation.

AdamW after Loshchilov and Hutter 2019 (arXiv:1711.05101) with their cosine (arXiv:1608.03983).
What is scored and kept is the exponential average of the weights, which is steadier than the
weights themselves.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from typing import Any

import torch
from torch import Tensor

from tilseg.errors import ModelError
from tilseg.models.blocks import Network
from tilseg.training.losses import deep_supervision, make_loss
from tilseg.training.scores import Scores
from tilseg.training.settings import Settings

Batch = tuple[Tensor, Tensor]

_AHEAD = 2  # batches prepared while one is learnt
_WARM_UP = 0.03  # share of the training in which the learning rate rises
_VALIDATIONS = 20


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


class Trainer:
    """A network in training, its optimizer and the average of its weights.

    Everything that a continued training needs is in `state`.
    """

    def __init__(self, network: Network, settings: Settings, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self.network = network.to(device).train()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval()
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), weight_decay=settings.weight_decay
        )
        self.half = helps_half_precision(device)
        self.loss_of = make_loss(settings.loss, settings.class_weights)
        self.step = 0
        self.seconds = 0.0
        self.loss = math.nan

    @property
    def done(self) -> float:
        """Share of the training that is behind, by steps or by minutes."""
        spent = 0.0
        if self.settings.minutes is not None:
            spent = self.seconds / (60 * self.settings.minutes)
        return min(1.0, max(self.step / self.settings.steps, spent))

    def learn(self, pixels: Tensor, labels: Tensor) -> float:
        """One gradient step; returns the loss.

        Raises ModelError E-TRAIN-DIVERGED when the loss is NaN or infinite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * _schedule(self.done)
        pixels, labels = pixels.to(self.device), labels.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            heads = self.network.heads(pixels)
        loss = deep_supervision(self.loss_of, heads, labels, self.network.head_weights)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ModelError("E-TRAIN-DIVERGED", loss=value, step=self.step + 1)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.optimizer.step()
        self.step += 1
        self.loss = value if self.step == 1 else self.loss + (value - self.loss) / 50
        self._follow()
        return value

    @torch.no_grad()
    def _follow(self) -> None:
        # Early weights are worth little: the average starts short and grows to its length.
        keep = min(self.settings.averaging, (1 + self.step) / (10 + self.step))
        new = self.network.state_dict()
        for name, old in self.average.state_dict().items():
            if old.is_floating_point():
                old.lerp_(new[name], 1 - keep)
            else:
                old.copy_(new[name])

    def state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.loss = state["step"], state["seconds"], state["loss"]


def run(
    trainer: Trainer,
    make_batch: Callable[[int], Batch],
    check: Callable[[], Scores],
    *,
    report: Callable[[Progress], None],
    stop: Callable[[], bool],
) -> bool:
    """Train to the end, or until `stop` says so between two steps; whether the end was reached.

    make_batch: the batch of a step, prepared ahead in one thread. check: validates and keeps
    what is worth keeping; called at even shares of the training and at its end.
    """
    checked = _checks_due(trainer)
    began = monotonic() - trainer.seconds
    learnt, learning = 0, 0.0
    with contextlib.closing(_ahead(make_batch, trainer.step)) as batches:
        while trainer.done < 1:
            if stop():
                return False
            asked = monotonic()
            pixels, labels = next(batches)
            trainer.learn(pixels, labels)
            learnt, learning = learnt + labels.numel(), learning + monotonic() - asked
            trainer.seconds = monotonic() - began
            scores = None
            if _checks_due(trainer) > checked:
                checked = _checks_due(trainer)
                scores = check()
                trainer.seconds = monotonic() - began
            report(_progress(trainer, learnt / learning / 1e6, scores))
    return True


def helps_half_precision(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32: on a GPU, and where the CPU multiplies it.

    Without such instructions bfloat16 is emulated, at a tenth of the speed. A torch too old to
    tell trains in float32.
    """
    if device.type != "cpu":
        return True
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _checks_due(trainer: Trainer) -> int:
    return math.floor(trainer.done * _VALIDATIONS)


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


def _schedule(done: float) -> float:
    """Factor of the learning rate: a short rise, then half a cosine down to nothing."""
    rise = min(1.0, (done + 1e-3) / _WARM_UP)
    return rise * 0.5 * (1 + math.cos(math.pi * done))


def _progress(trainer: Trainer, rate: float, scores: Scores | None) -> Progress:
    left = trainer.seconds * (1 - trainer.done) / trainer.done
    return Progress(trainer.step, trainer.done, trainer.loss, rate, left, scores)
