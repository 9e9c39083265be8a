"""From images and masks to a model file with a complete card."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tilseg.card import Card, ClassInfo, file_sha256
from tilseg.errors import OutputError, UsageError
from tilseg.instance_rule import Border, settled
from tilseg.models.blocks import Network
from tilseg.models.devices import be_reproducible_on_cuda, resolve_device
from tilseg.models.network import make_network
from tilseg.models.pretrained import begin_with
from tilseg.training.config import Config
from tilseg.training.contact_sheet import contact_sheet
from tilseg.training.course import Course, TrainReport
from tilseg.training.dataset import Dataset, open_dataset
from tilseg.training.loop import Progress
from tilseg.training.losses import loss_terms
from tilseg.training.patches import PatchReader
from tilseg.training.trainer import Trainer

_log = logging.getLogger("tilseg")

# Okabe and Ito's colours, distinct for colour-blind eyes; the background is black.
_COLORS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999")
_BACKGROUND = "#000000"


def train(
    config: Config,
    *,
    report: Callable[[Progress], None] = lambda progress: None,  # noqa: ARG005
    stop: Callable[[], bool] = lambda: False,
) -> TrainReport:
    """Train a network and write the weights that validate best to `config.output.model`.

    The logger "tilseg" is told how much of `config.network.weights` fits.

    The best weights so far are in the output after each validation. Beside it is a folder with the
    figures of every validation and a page, see `tilseg.training.course`, and until the training is
    complete the state to continue from: the same call continues, and does nothing when the
    training is complete. With a bound in steps
    and none in minutes the same seed gives the same weights on the same kind of device and
    number of threads.

    Raises UsageError E-OPTION; InputError (exit 4) as `open_dataset` does; ModelError (exit 6)
    E-MODEL-PARAMETERS, E-TRAIN-WEIGHTS, E-MODEL-NAN, E-TRAIN-DIVERGED; OutputError (exit 7);
    ResourceError E-NO-CUDA (exit 8); ExistsError (exit 10) E-TRAIN-EXISTS, E-TRAIN-PARTIAL.
    """
    output = _checked(config)
    place = torch.device(resolve_device(config.device))
    if place.type != "cpu":
        # The model of a validation asks for it too, which must not change what is trained after it.
        be_reproducible_on_cuda()
    data = _open_data(config)
    made, parameters = _network(config, data.bands)
    recipe = {**_images(data), **config.recipe()}
    if config.network.weights is not None:
        recipe["begun_with"] = _begin(made, Path(config.network.weights))
    card = _card(config, data, made, parameters, recipe)
    return Course(output, card, data, Trainer(made, config, place)).run(report, stop)


def preview(config: Config, *, rows: int = 5, changed: int = 6) -> NDArray[np.uint8]:
    """What the training of `config` would see, as a picture (height, width, 3).

    rows, changed: places and augmented patches of each; see `contact_sheet`. Nothing is trained and
    no output is needed. Raises as `train` does.
    """
    data = _open_data(config)
    with torch.device("meta"):  # weights are not looked at
        field = _network(config, data.bands)[0].field
    reader = PatchReader(field, config.patches.size, config.augmentation)
    colors = [info.color for info in _class_infos(config)]
    return contact_sheet(
        reader, data.training, colors, rows=rows, changed=changed, seed=config.seed
    )


def _open_data(config: Config) -> Dataset:
    field = _network(config, bands=1)[0].field if config.data.split == "blocks" else None
    return open_dataset(config.data, config.classes, seed=config.seed, field=field)


def _checked(config: Config) -> Path:
    """The output; what is wrong with the configuration is said before any image is opened."""
    if config.output.model is None:
        raise UsageError(
            "E-USAGE", message="Missing option '-o' / '--output'", command="tilseg train"
        )
    output = Path(config.output.model)
    if not output.parent.is_dir():
        raise OutputError("E-OUTPUT-PARENT", path=output, parent=output.parent)
    if config.network.head == "sigmoid" and len(config.classes) != 2:
        raise UsageError(
            "E-OPTION",
            option="--head",
            value="sigmoid",
            allowed="softmax for more than two classes",
        )
    loss_terms(config.loss.terms)
    return output


def _network(config: Config, bands: int) -> tuple[Network, dict[str, Any]]:
    """The network with the weights of the seed, and its parameters."""
    choice = config.network
    channels = 1 if choice.head == "sigmoid" else len(config.classes)
    parameters = {"bands": bands, "classes": channels, **choice.arguments}
    # torch's own generator is left as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return make_network(choice.architecture, parameters), parameters


def _begin(network: Network, path: Path) -> dict[str, Any]:
    taken, count = begin_with(network, path), len(network.state_dict())
    _log.info("begins with %d of its %d weights from %s", taken, count, path)
    return {"file": path.name, "sha256": file_sha256(path), "taken": taken, "of": count}


def _card(
    config: Config,
    data: Dataset,
    network: Network,
    parameters: dict[str, Any],
    recipe: dict[str, Any],
) -> Card:
    names = config.class_names
    return Card(
        name=Path(str(config.output.model)).stem,
        description=config.output.description,
        licence=config.output.licence,
        architecture=config.network.architecture,
        parameters=parameters,
        bands=data.bands,
        band_names=data.band_names,
        normalization=data.normalization,
        head=config.network.head,
        classes=_class_infos(config),
        background=names.index("background") if "background" in names else None,
        instances=settled(Border(), names) if "border" in names else None,
        pixel_size=data.pixel_size.rows if data.pixel_size else None,
        unit=data.pixel_size.unit if data.pixel_size else None,
        halo=network.field.halo,
        stride=network.field.stride,
        offset=network.field.offset,
        inexact=network.inexact,
        training=recipe,
    )


def _class_infos(config: Config) -> tuple[ClassInfo, ...]:
    """Names and colours; where none is chosen, black for the background and distinct ones."""
    objects = itertools.cycle(_COLORS)
    chosen = (
        each.color or (_BACKGROUND if each.name == "background" else next(objects))
        for each in config.classes
    )
    pairs = zip(config.class_names, chosen, strict=True)
    return tuple(ClassInfo(name=name, color=color) for name, color in pairs)


def _images(data: Dataset) -> dict[str, Any]:
    """Which images are of which part, and how much there is of each."""
    names = {"training": data.training, "validation": data.validation}
    images = {part: [sample.name for sample in own] for part, own in names.items()}
    return {"images": images, "samples": data.summary}
