"""The course of one training: validate, keep what is best, record it, continue where it stopped.

For model.safetensors the folder model.training holds

    metrics.csv     a line for each validation
    training.html   curves, figures, patches and the configuration; see `tilseg.training.page`

and .model.safetensors.training, until the training is complete, the state to go on from.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tilseg.card import Card, read_card
from tilseg.durable import write_durably, writing
from tilseg.errors import TilsegError
from tilseg.models.blocks import Network
from tilseg.models.network import save_model
from tilseg.models.torch_model import TorchModel
from tilseg.pages.encoding import png
from tilseg.training.centres import Centres
from tilseg.training.checkpoint import complete_card, load_state, remove_state, save_state
from tilseg.training.contact_sheet import contact_sheet
from tilseg.training.dataset import Dataset
from tilseg.training.gallery import Gallery
from tilseg.training.history import Line, line_of, to_csv
from tilseg.training.loop import Progress, run
from tilseg.training.page import Kept, training_page
from tilseg.training.patches import PatchReader
from tilseg.training.scores import Scores, validate
from tilseg.training.trainer import Trainer


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training came to.

    finished: False when it was stopped; the same call continues it. computed: False when it had
    been complete before. step: gradient steps done. metrics: of the model that `path` holds, as in
    its card; empty when none was validated yet, and then there is no file. records: the folder
    with metrics.csv and training.html.
    """

    path: Path
    finished: bool
    computed: bool
    step: int
    metrics: dict[str, Any]
    records: Path


def records_path(output: Path) -> Path:
    """The folder of a model's records."""
    return output.with_suffix(".training")


class Course:
    """One training and the files it keeps."""

    def __init__(self, output: Path, card: Card, data: Dataset, trainer: Trainer) -> None:
        self.output = output
        self.card = card
        self.data = data
        self.trainer = trainer
        config = trainer.config
        field = trainer.network.field
        self.reader = PatchReader(field, config.patches.size, config.augmentation)
        self.recipe = card.model_dump(mode="json")
        self.history: list[Line] = []
        self.kept: Kept | None = None  # where this process has validated what `output` holds

    def run(self, report: Callable[[Progress], None], stop: Callable[[], bool]) -> TrainReport:
        trainer, config = self.trainer, self.trainer.config
        folder = records_path(self.output)
        state = load_state(self.output, self.recipe)
        if state is None:
            card = complete_card(self.output, self.recipe)
            if card is not None:
                step = card.training["step"]
                return TrainReport(self.output, True, False, step, card.metrics, folder)
            # A model without a state beside it counts as complete, so there is never one.
            self._keep_state()
        else:
            trainer.restore(state["trainer"])
            self.history = state["history"]
        centres = Centres(self.data.training, config.patches.balance, config.seed)
        count = config.patches.batch * config.patches.accumulate
        try:
            finished = run(
                trainer,
                lambda step: self.reader.batch(centres, count, config.seed, step),
                self._check,
                report=report,
                stop=stop,
                enough=self._is_enough,
            )
        except TilsegError:
            if state is None and not self.output.exists():
                # Nothing is lost, and the next call may ask for something else.
                remove_state(self.output)
            raise
        if not finished:
            self._keep_state()
        metrics = self._write_page(finished)
        if finished:
            remove_state(self.output)
        return TrainReport(self.output, finished, True, trainer.step, metrics, folder)

    def _is_enough(self) -> bool:
        """Whether as many validations as have patience gave nothing better."""
        patience = self.trainer.config.schedule.patience
        latest = self.history[-patience:] if patience else []
        return len(latest) == patience and not any(line["kept"] for line in latest)

    def _check(self, rate: float) -> Scores:
        """Validate the average as it will be stored; keep it if it is the best so far."""
        network = _as_stored(self.trainer.average)
        scores, gallery = self._validated(TorchModel(network, self.card, device=self._device))
        is_best = scores.dice > max((line["dice"] for line in self.history), default=-1.0)
        self.history.append(line_of(self.trainer, scores, rate, kept=is_best))
        if is_best:
            training = self.card.training | _circumstances(self.trainer)
            card = self.card.model_copy(update={"metrics": scores.summary(), "training": training})
            save_model(network, card, self.output, storage="fp16")
            self.kept = Kept(card, scores.all, gallery)
        self._keep_state()
        self._record("metrics.csv", to_csv(self.history))
        return scores

    @property
    def _device(self) -> str:
        return str(self.trainer.device)

    def _validated(self, model: TorchModel) -> tuple[Scores, Gallery]:
        gallery = Gallery(self.card)
        return validate(model, self.data.validation, gallery.add), gallery

    def _write_page(self, finished: bool) -> dict[str, Any]:
        """The page of what the model file holds; returns its metrics, {} where there is no file."""
        if not self.output.exists():
            return {}
        kept = self.kept or self._kept_before()
        trainer = self.trainer
        words = "complete" if finished else "stopped; the same command continues"
        colors = [info.color for info in self.card.classes]
        sheet = contact_sheet(
            self.reader, self.data.training, colors, rows=3, changed=4, seed=trainer.config.seed
        )
        page = training_page(
            kept,
            self.history,
            trainer.config,
            state=f"{words}: {trainer.step:,} steps in {trainer.seconds / 60:,.1f} minutes",
            augmented=png(sheet),
        )
        self._record("training.html", page)
        return kept.card.metrics

    def _kept_before(self) -> Kept:
        """What an earlier process has kept, validated again."""
        from tilseg.model import load_model

        card = read_card(self.output)
        model = load_model(self.output, device=self._device)
        gallery = Gallery(card)
        scores = validate(model, self.data.validation, gallery.add)
        return Kept(card, scores.all, gallery)

    def _keep_state(self) -> None:
        state = {"trainer": self.trainer.state(), "history": self.history}
        save_state(self.output, self.recipe, state)

    def _record(self, name: str, content: str) -> None:
        folder = records_path(self.output)
        with writing(folder):
            folder.mkdir(exist_ok=True)
        write_durably(folder / name, content)


def _as_stored(network: Network) -> Network:
    """A copy with its weights rounded to the half precision of the file."""
    copied = copy.deepcopy(network).requires_grad_(False)
    for value in copied.state_dict().values():
        if value.is_floating_point():
            value.copy_(value.half())
    return copied


def _circumstances(trainer: Trainer) -> dict[str, Any]:
    """What held when these weights were taken."""
    packages = ("tilseg", "torch", "numpy")
    return {
        "step": trainer.step,
        "seconds": round(trainer.seconds),
        "device": trainer.device.type,
        "computed_in": "bf16" if trainer.half else "fp32",
        "versions": {name: version(name) for name in packages}
        | {"python": platform.python_version()},
    }
