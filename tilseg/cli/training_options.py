"""The options of `train`, made from the sections of its file: what one can say, so can the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, get_args, get_origin

import click
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from tilseg.cli.sections import SectionedCommand, together
from tilseg.training.config import Config
from tilseg.training.settings import AUGMENTATIONS

# option -> where its value goes in the file. What is not here is for the file alone.
PLACES = {
    "--output": "output.model",
    "--network": "network.name",
    "--depth": "network.depth",
    "--width": "network.width",
    "--head": "network.head",
    "--weights": "network.weights",
    "--steps": "schedule.steps",
    "--minutes": "schedule.minutes",
    "--schedule": "schedule.rate",
    "--warm-up": "schedule.warm-up",
    "--validations": "schedule.validations",
    "--patience": "schedule.patience",
    "--patch": "patches.size",
    "--batch": "patches.batch",
    "--balance": "patches.balance",
    "--accumulate": "patches.accumulate",
    "--augment": "augmentation.preset",
    "--loss": "loss.terms",
    "--optimizer": "optimizer.name",
    "--learning-rate": "optimizer.learning-rate",
    "--momentum": "optimizer.momentum",
    "--weight-decay": "optimizer.weight-decay",
    "--averaging": "optimizer.averaging",
    "--split": "data.split",
    "--block": "data.block",
    "--validation-fraction": "data.validation-fraction",
    "--normalization": "data.normalization",
    "--orient": "data.orient",
    "--seed": "seed",
    "--precision": "precision",
    "--device": "device",
    "--description": "output.description",
    "--licence": "output.licence",
}


# option of a list, one for each class, with commas -> the field of the class.
LISTS = {"--classes": "name", "--colors": "color", "--class-weights": "weight"}


def _headings() -> dict[str, tuple[str, ...]]:
    """Names of options by section of the file."""
    found: dict[str, list[str]] = {"Output": [], "Data": [], "Classes": []}
    places = {flag: place.rpartition(".")[0] for flag, place in PLACES.items()}
    for flag, section in (places | dict.fromkeys(LISTS, "classes")).items():
        title = section.capitalize() or "At the top of the file"
        found.setdefault(title, []).append(flag[2:].replace("-", "_"))
    return {title: tuple(names) for title, names in found.items()}


class TrainCommand(SectionedCommand):
    """A command whose options stand under the sections of the file that have the same."""

    headings: ClassVar[dict[str, tuple[str, ...]]] = _headings()


def training_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds every option of a training."""
    made = {flag: _option(flag, place) for flag, place in PLACES.items() if flag not in _OWN}
    return together(*(_OWN | made).values())(command)


def _option(flag: str, place: str) -> Callable[..., Any]:
    field = _field(place)
    return click.option(
        flag,
        type=_type(field),
        default=field.default,
        show_default=field.default not in (None, ""),
        metavar="NAME" if flag == "--network" else None,
        help=field.description,
    )


_OWN = {
    "--output": click.option("-o", "--output", help="Model file: model.safetensors."),
    "--classes": click.option(
        "--classes",
        metavar="NAME,NAME,...",
        help="Names of the mask values 0, 1, ...; 255 in a mask means not labelled.  "
        "[default: background,foreground]",
    ),
    "--colors": click.option(
        "--colors",
        metavar="COLOURS",
        help="Colours of the classes: #000000,#0072b2.  [default: chosen]",
    ),
    "--class-weights": click.option(
        "--class-weights",
        metavar="W,W,...",
        help="How much a pixel of each class counts in cross-entropy and focal.",
    ),
    "--augment": click.option(
        "--augment",
        type=click.Choice(list(AUGMENTATIONS)),
        default="light",
        show_default=True,
        help="light for one instrument and scale, medium for some, strong for many; histology for "
        "stained tissue.",
    ),
}


def _field(place: str) -> FieldInfo:
    *sections, name = place.replace("-", "_").split(".")
    model: Any = Config
    for section in sections:
        model = model.model_fields[section].annotation
    field: FieldInfo = model.model_fields[name]
    return field


def _type(field: FieldInfo) -> Any:
    """How click reads a field: its type without None, with its bounds."""
    kind, bounds = field.annotation, list(field.metadata)
    parts = [part for part in get_args(kind) if part is not type(None)]
    if get_origin(kind) is Literal:
        return click.Choice(list(get_args(kind)))
    if len(parts) == 1:
        kind, bounds = parts[0], [*bounds, *getattr(parts[0], "__metadata__", ())]
        if get_origin(kind) is Literal:
            return click.Choice(list(get_args(kind)))
        kind = getattr(kind, "__origin__", kind)
    if kind not in (int, float):
        return str
    return _range(kind, [b for bound in bounds for b in getattr(bound, "metadata", [bound])])


# what pydantic keeps of Field(ge=...) and its like -> which side of click's range it is.
_BOUNDS: dict[type, tuple[str, str, bool]] = {
    Ge: ("ge", "min", False),
    Gt: ("gt", "min", True),
    Le: ("le", "max", False),
    Lt: ("lt", "max", True),
}


def _range(kind: Any, bounds: list[Any]) -> Any:
    given: dict[str, Any] = {}
    for bound in bounds:
        name, side, is_open = _BOUNDS[type(bound)]
        given |= {side: getattr(bound, name), f"{side}_open": is_open}
    return (click.IntRange if kind is int else click.FloatRange)(**given)
