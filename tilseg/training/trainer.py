"""One gradient step after the other: the network, its optimizer and the average of its weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from tilseg.errors import ModelError
from tilseg.models.blocks import Network
from tilseg.training.config import Config, Optimizer
from tilseg.training.losses import deep_supervision, loss_terms

_SMOOTH = 50  # steps over which the losses that are told are averaged


class Trainer:
    """A network in training; everything that a continued training needs is in `state`.

    What is scored and kept is `average`, the exponential average of the weights, which is
    steadier than the weights themselves. losses: smoothed, each term by itself.
    """

    def __init__(self, network: Network, config: Config, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.network = network.to(device).train()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval()
        self.optimizer = _optimizer(self.network, config.optimizer)
        self.half = _half(config.precision, device)
        self.terms = loss_terms(config.loss.terms, config.class_weights)
        self.step = 0
        self.seconds = 0.0
        self.losses: dict[str, float] = {}

    @property
    def done(self) -> float:
        """Share of the training that is behind, by steps or by minutes."""
        schedule, spent = self.config.schedule, 0.0
        if schedule.minutes is not None:
            spent = self.seconds / (60 * schedule.minutes)
        return min(1.0, max(self.step / schedule.steps, spent))

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        schedule = self.config.schedule
        rise = min(1.0, (self.done + 1e-3) / schedule.warm_up) if schedule.warm_up else 1.0
        return self.config.optimizer.rate * rise * _FALLS[schedule.rate](self.done)

    @property
    def loss(self) -> float:
        """The sum of the losses, NaN before the first step."""
        return math.fsum(self.losses.values()) if self.losses else math.nan

    def learn(self, pixels: Tensor, labels: Tensor) -> None:
        """One gradient step on (n, bands, rows, cols) pixels and (n, rows', cols') labels.

        Raises ModelError E-TRAIN-DIVERGED when a loss is NaN or infinite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.optimizer.zero_grad(set_to_none=True)
        count = self.config.patches.accumulate
        values = torch.zeros(len(self.terms), device=self.device)
        for part in zip(pixels.chunk(count), labels.chunk(count), strict=True):
            losses = self._losses(*part)
            torch.autograd.backward(losses.sum() / count)
            values += losses.detach() / count
        self._note(dict(zip(self.terms, values.tolist(), strict=True)))
        self.optimizer.step()
        self.step += 1
        self._follow()

    def _losses(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """(terms,): each of them over all heads of the network."""
        pixels, labels = pixels.to(self.device), labels.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            heads = self.network.heads(pixels)
        weights = self.network.head_weights
        terms = self.terms.values()
        return torch.stack([deep_supervision(term, heads, labels, weights) for term in terms])

    def _note(self, losses: dict[str, float]) -> None:
        total = math.fsum(losses.values())
        if not math.isfinite(total):
            raise ModelError("E-TRAIN-DIVERGED", loss=total, step=self.step + 1)
        for name, value in losses.items():
            before = self.losses.get(name, value)
            self.losses[name] = before + (value - before) / _SMOOTH

    @torch.no_grad()
    def _follow(self) -> None:
        # Early weights are worth little: the average starts short and grows to its length.
        keep = min(self.config.optimizer.averaging, (1 + self.step) / (10 + self.step))
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
            "losses": self.losses,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.losses = state["step"], state["seconds"], state["losses"]


# How the learning rate goes down to nothing, by the share of the training that is behind: half a
# cosine (Loshchilov and Hutter, arXiv:1608.03983), or the polynomial of DeepLab (Chen et al.,
# arXiv:1606.00915) and nnU-Net.
_FALLS: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    "poly": lambda done: (1 - done) ** 0.9,
    "constant": lambda _: 1.0,
}


def _optimizer(network: Network, choice: Optimizer) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101), or SGD with Nesterov's momentum."""
    if choice.name == "adamw":
        return torch.optim.AdamW(network.parameters(), weight_decay=choice.weight_decay)
    return torch.optim.SGD(
        network.parameters(),
        lr=choice.rate,
        momentum=choice.momentum,
        weight_decay=choice.weight_decay,
        nesterov=choice.momentum > 0,
    )


def _half(precision: str, device: torch.device) -> bool:
    return helps_half_precision(device) if precision == "auto" else precision == "bf16"


def helps_half_precision(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32: on a GPU, and where the CPU multiplies it.

    Without such instructions bfloat16 is emulated, at a tenth of the speed. A torch too old to
    tell trains in float32.
    """
    if device.type != "cpu":
        return True
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
