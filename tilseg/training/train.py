"""From images and masks to a model file with a complete card."""

from __future__ import annotations

import copy
import itertools
import logging
import math
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from tilseg.card import Card, ClassInfo, file_sha256
from tilseg.errors import OutputError, UsageError
from tilseg.instance_rule import Border, settled
from tilseg.models.blocks import Network
from tilseg.models.network import TorchModel, make_network, resolve_device, save_model
from tilseg.models.pretrained import begin_with
from tilseg.models.settings import SETTINGS
from tilseg.training.checkpoint import load_state, remove_state, save_state
from tilseg.training.dataset import Dataset, open_dataset
from tilseg.training.loop import Progress, Trainer, run
from tilseg.training.losses import make_loss
from tilseg.training.patches import PatchReader
from tilseg.training.scores import Scores, validate
from tilseg.training.settings import Settings

_log = logging.getLogger("tilseg")

# Okabe and Ito's colours, distinct for colour-blind eyes; the background is black.
_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999")
_BACKGROUND = "#000000"


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training came to.

    finished: False when it was stopped; the same call continues it. step: gradient steps done.
    metrics: of the model that `path` holds, as in its card; empty when none was validated yet,
    and then there is no file.
    """

    path: Path
    finished: bool
    step: int
    metrics: dict[str, Any]


def train(
    images: str | os.PathLike[str],
    masks: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    classes: tuple[str, ...] = ("background", "foreground"),
    colors: tuple[str, ...] | None = None,
    architecture: str = "unet",
    network: Mapping[str, Any] = SETTINGS["unet-small"].parameters,
    weights: str | os.PathLike[str] | None = None,
    head: Literal["softmax", "sigmoid"] = "softmax",
    normalization: Literal["image", "joint", "constants"] = "image",
    orient: Literal["bright-on-dark"] | None = None,
    fraction: float = 0.2,
    device: str = "auto",
    settings: Settings = Settings(),  # noqa: B008
    description: str = "",
    licence: str = "",
    report: Callable[[Progress], None] = lambda progress: None,  # noqa: ARG005
    stop: Callable[[], bool] = lambda: False,
) -> TrainReport:
    """Train a network and write the weights that validate best to `output`, a `.safetensors`.

    Images and masks are paired and split as `open_dataset` says. colors: of the classes, each as
    "#0072b2"; None chooses, with black for "background". architecture: a name in
    `tilseg.model.ARCHITECTURES`. network: its parameters, without bands and classes; see
    `tilseg.models.settings` for those people use. weights: a file to begin with, see
    `tilseg.models.pretrained`; the logger "tilseg" is told how much of it fits.

    The best weights so far are in `output` after each validation; the state to continue from is
    beside it until the training is complete, and the same call continues. With a bound in steps
    and none in minutes the same seed gives the same weights on the same kind of device and
    number of threads.

    Raises UsageError E-OPTION; InputError (exit 4) as `open_dataset` does; ModelError (exit 6)
    E-MODEL-PARAMETERS, E-TRAIN-WEIGHTS, E-MODEL-NAN, E-TRAIN-DIVERGED; OutputError (exit 7);
    ResourceError E-NO-CUDA (exit 8); ExistsError (exit 10) E-TRAIN-EXISTS, E-TRAIN-PARTIAL.
    """
    output = Path(output)
    if not output.parent.is_dir():
        raise OutputError("E-OUTPUT-PARENT", path=output, parent=output.parent)
    if head == "sigmoid" and len(classes) != 2:
        raise UsageError(
            "E-OPTION", option="--head", value=head, allowed="softmax for more than two classes"
        )
    _check_loss(settings, classes)
    infos = _class_infos(classes, colors)
    place = torch.device(resolve_device(device))
    data = open_dataset(
        images,
        masks,
        classes=classes,
        normalization=normalization,
        orient=orient,
        fraction=fraction,
        seed=settings.seed,
    )
    channels = 1 if head == "sigmoid" else len(classes)
    parameters = {"bands": data.bands, "classes": channels, **network}
    made = _seeded(architecture, parameters, settings.seed)
    recipe = _recipe(data, settings)
    if weights is not None:
        recipe["begun_with"] = _begin(made, Path(weights))
    card = Card(
        name=output.stem,
        description=description,
        licence=licence,
        architecture=architecture,
        parameters=parameters,
        bands=data.bands,
        band_names=data.band_names,
        normalization=data.normalization,
        head=head,
        classes=infos,
        background=classes.index("background") if "background" in classes else None,
        instances=settled(Border(), classes) if "border" in classes else None,
        pixel_size=data.pixel_size.rows if data.pixel_size else None,
        unit=data.pixel_size.unit if data.pixel_size else None,
        halo=made.field.halo,
        stride=made.field.stride,
        offset=made.field.offset,
        inexact=made.inexact,
        training=recipe,
    )
    return _Training(output, card, data, Trainer(made, settings, place)).run(report, stop)


def _check_loss(settings: Settings, classes: tuple[str, ...]) -> None:
    make_loss(settings.loss)
    weights = settings.class_weights
    good = len(weights) == len(classes) and all(0 < weight < math.inf for weight in weights)
    if weights and not good:
        shown = ",".join(f"{weight:g}" for weight in weights)
        allowed = f"a positive number for each of the {len(classes)} classes"
        raise UsageError("E-OPTION", option="--class-weights", value=shown, allowed=allowed)


class _Training:
    """One training and the two files it keeps: the best model and the state to go on from."""

    def __init__(self, output: Path, card: Card, data: Dataset, trainer: Trainer) -> None:
        self.output = output
        self.card = card
        self.data = data
        self.trainer = trainer
        self.recipe = card.model_dump(mode="json")
        self.best = -1.0  # Dice of what `output` holds
        self.metrics: dict[str, Any] = {}

    def run(self, report: Callable[[Progress], None], stop: Callable[[], bool]) -> TrainReport:
        trainer, settings = self.trainer, self.trainer.settings
        state = load_state(self.output, self.recipe)
        if state is not None:
            trainer.restore(state["trainer"])
            self.best, self.metrics = state["best"], state["metrics"]
        reader = PatchReader(trainer.network.field, settings.patch, settings.augmentation)
        finished = run(
            trainer,
            lambda step: reader.batch(self.data.training, settings.batch, settings.seed, step),
            self._check,
            report=report,
            stop=stop,
        )
        if finished:
            remove_state(self.output)
        else:
            self._keep_state()
        return TrainReport(self.output, finished, trainer.step, self.metrics)

    def _check(self) -> Scores:
        """Validate the average as it will be stored; keep it if it is the best so far."""
        network = _as_stored(self.trainer.average)
        device = str(self.trainer.device)
        scores = validate(TorchModel(network, self.card, device=device), self.data.validation)
        if scores.dice > self.best:
            self.best = scores.dice
            self.metrics = scores.summary(tuple(info.name for info in self.card.classes))
            training = self.card.training | _circumstances(self.trainer)
            card = self.card.model_copy(update={"metrics": self.metrics, "training": training})
            save_model(network, card, self.output, storage="fp16")
        self._keep_state()
        return scores

    def _keep_state(self) -> None:
        state = {"trainer": self.trainer.state(), "best": self.best, "metrics": self.metrics}
        save_state(self.output, self.recipe, state)


def _seeded(architecture: str, parameters: dict[str, Any], seed: int) -> Network:
    """A network with the initial weights of `seed`; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_network(architecture, parameters)


def _begin(network: Network, path: Path) -> dict[str, Any]:
    taken, count = begin_with(network, path), len(network.state_dict())
    _log.info("begins with %d of its %d weights from %s", taken, count, path)
    return {"file": path.name, "sha256": file_sha256(path), "taken": taken, "of": count}


def _as_stored(network: Network) -> Network:
    """A copy with its weights rounded to the half precision of the file."""
    copied = copy.deepcopy(network).requires_grad_(False)
    for value in copied.state_dict().values():
        if value.is_floating_point():
            value.copy_(value.half())
    return copied


def _class_infos(classes: tuple[str, ...], colors: tuple[str, ...] | None) -> tuple[ClassInfo, ...]:
    if colors is None:
        objects = iter(itertools.cycle(_COLORS))
        colors = tuple(_BACKGROUND if name == "background" else next(objects) for name in classes)
    try:
        return tuple(
            ClassInfo(name=name, color=color) for name, color in zip(classes, colors, strict=True)
        )
    except ValueError:
        allowed = f"{len(classes)} colours such as #0072b2, one for each class"
        raise UsageError(
            "E-OPTION", option="--colors", value=",".join(colors), allowed=allowed
        ) from None


def _recipe(data: Dataset, settings: Settings) -> dict[str, Any]:
    """What decides the weights, as plain JSON."""
    names = {"training": data.training, "validation": data.validation}
    return {
        "images": {part: [sample.name for sample in samples] for part, samples in names.items()},
        "optimizer": "AdamW, cosine",
        **asdict(settings),
    }


def _circumstances(trainer: Trainer) -> dict[str, Any]:
    """What held when these weights were taken."""
    packages = ("tilseg", "torch", "numpy")
    return {
        "step": trainer.step,
        "seconds": round(trainer.seconds),
        "device": trainer.device.type,
        "precision": "bf16" if trainer.half else "fp32",
        "versions": {name: version(name) for name in packages}
        | {"python": platform.python_version()},
    }
