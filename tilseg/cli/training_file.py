"""The configuration of a training: its file, and over it the arguments and options of the command."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel, ValidationError

from tilseg.cli.config import line_of, read_toml, refuse
from tilseg.cli.training_options import LISTS, PLACES
from tilseg.errors import UsageError, nearest
from tilseg.training.config import Config, TrainingClass
from tilseg.training.settings import Augmentation

# Keys are written "warm-up", fields "warm_up". Both ways, so that a key with "_" is no field.
_SWAP = str.maketrans("-_", "_-")


def make_config(ctx: click.Context, paths: tuple[str, ...]) -> Config:
    """The training that is described: the file first, then what the command line says.

    paths: `[CONFIG.toml] [IMAGES MASKS | TABLE.csv]`.

    Raises UsageError E-CONFIG for what the file can't say, E-OPTION for an option.
    """
    file = Path(paths[0]) if paths and paths[0].endswith(".toml") else None
    content, text = read_toml(file) if file else ({}, "")
    given = {
        flag: ctx.params[name]
        for flag in (*PLACES, *LISTS)
        if ctx.get_parameter_source(name := flag[2:].translate(_SWAP))
        is click.core.ParameterSource.COMMANDLINE
    }
    content = _renamed(content)
    options = [(PLACES[flag], value) for flag, value in given.items() if flag in PLACES]
    for place, value in [*_data(paths[1:] if file else paths), *options]:
        *sections, key = place.translate(_SWAP).split(".")
        section = content.setdefault(sections[0], {}) if sections else content
        if isinstance(section, dict):
            section[key] = value
    _put_classes(content, {flag: given[flag] for flag in LISTS if flag in given})
    try:
        return Config.model_validate_json(json.dumps(content, default=str), strict=True)
    except ValidationError as error:
        raise _refusal(error, given, file or Path(), text) from None


def _renamed(content: Any, inside: str = "") -> Any:
    """The same with the names of fields for keys."""
    if isinstance(content, list):
        return [_renamed(each, inside) for each in content]
    # What is in there goes to a network under its own names.
    if not isinstance(content, dict) or inside == "parameters":
        return content
    return {key.translate(_SWAP): _renamed(value, key) for key, value in content.items()}


def _data(paths: tuple[str, ...]) -> list[tuple[str, str | None]]:
    """Where the data are, as the arguments say; they take the place of all the file says."""
    if not paths:
        return []
    if len(paths) > 2 or (len(paths) == 1 and not paths[0].endswith(".csv")):
        raise click.UsageError("give [CONFIG.toml] and IMAGES MASKS or TABLE.csv")
    images, masks, table = (*paths, None) if len(paths) == 2 else (None, None, paths[0])
    return [("data.images", images), ("data.masks", masks), ("data.table", table)]


def _put_classes(content: dict[str, Any], given: dict[str, str]) -> None:
    """Lay names, colours and weights, each as "a,b,c", over the classes of the file."""
    for flag, text in given.items():
        parts: list[Any] = [part.strip() for part in text.split(",")]
        if flag == "--classes":
            content["classes"] = [{} for _ in parts]
        if flag == "--class-weights":
            parts = [_number(part) for part in parts]
        classes = content.setdefault("classes", [{"name": each} for each in Config().class_names])
        if not isinstance(classes, list) or len(classes) != len(parts):
            raise _bad(flag, text)
        for each, part in zip(classes, parts, strict=True):
            each[LISTS[flag]] = part


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


_ALLOWED = {
    "--classes": "2 to 254 different names separated by commas",
    "--colors": "a colour such as #0072b2 for each class",
    "--class-weights": "a positive number for each class",
}


def _bad(flag: str, text: str) -> UsageError:
    return UsageError("E-OPTION", option=flag, value=text, allowed=_ALLOWED[flag])


def _refusal(error: ValidationError, given: dict[str, Any], path: Path, text: str) -> UsageError:
    """The first thing that is wrong, as the person wrote it."""
    first = error.errors()[0]
    loc = [part for part in first["loc"] if isinstance(part, str)]
    words = first["msg"].removeprefix("Value error, ")
    if loc[0] == "classes":
        for flag, field in LISTS.items():
            if flag in given and (field in loc or flag == "--classes"):
                return _bad(flag, given[flag])
    place = ".".join(loc[:2]).translate(_SWAP)
    for flag, value in given.items():
        if PLACES.get(flag) == place:
            return UsageError("E-OPTION", option=flag, value=value, allowed=words)
    section, key = (loc[0], loc[-1].translate(_SWAP)) if len(loc) > 1 else ("", loc[0])
    line = line_of(text, key, section)
    where = f" of [{section}]" if section else ""
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = [name.translate(_SWAP) for name in _fields(section)]
        reason = f"{line}unknown key {key!r}{where}{nearest(key, known)}"
        return refuse(path, reason, f"allowed are {', '.join(known)}")
    return refuse(path, f"{line}{key}{where}: {words[0].lower()}{words[1:]}")


def _fields(section: str) -> list[str]:
    """What the keys of a section are, in Python."""
    if section == "augmentation":
        return ["preset", *(field.name for field in fields(Augmentation))]
    if section == "classes":
        return list(TrainingClass.model_fields)
    model: type[BaseModel] = Config
    if section:
        model = Config.model_fields[section].annotation or Config
    return list(model.model_fields)
