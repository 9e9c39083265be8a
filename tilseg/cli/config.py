"""The configuration file: options of a verb in TOML 1.0, checked as strictly as a program."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import click

from tilseg.errors import UsageError, nearest

# Nobody writes more, and what is read must be bounded.
_MAX_BYTES = 2**20
# About one call of the command, not about the job.
_NOT_HERE = ("config", "help", "json", "debug")

# The one section: of jobs, not an option.
SLURM = "slurm"

_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


def load_config(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:  # noqa: ARG001
    """Take option values from a TOML file; the command line wins over it.

    Raises UsageError E-CONFIG, with the line, for what is not TOML, an unknown key, one given
    twice, and a value that the option would not take.
    """
    if value is None:
        return
    content, text = read_toml(value)
    known = {
        option.removeprefix("--"): parameter
        for parameter in ctx.command.params
        for option in parameter.opts
        if option.startswith("--") and option.removeprefix("--") not in _NOT_HERE
    }
    if "cluster" in known and content.pop(SLURM, None) is not None:
        # What it says counts where --cluster asks for it.
        ctx.meta[SLURM] = value
    defaults: dict[str, Any] = {}
    for key, setting in content.items():
        place = line_of(text, key)
        if key not in known:
            reason = f"{place}unknown key {key!r}{nearest(key, known)}"
            raise refuse(value, reason, f"allowed are {', '.join(known)}")
        option = known[key]
        wanted = _wanted(option, setting)
        if wanted:
            reason = f"{place}{key} is {_shown(setting)}"
            raise refuse(value, reason, f"write it as {wanted}")
        try:
            option.type_cast_value(ctx, setting)
        except click.BadParameter as error:
            raise refuse(value, f"{place}{key}: {error.message.rstrip('.')}") from None
        except UsageError as error:
            raise refuse(value, f"{place}{key}: {error.problem}", error.advice) from None
        defaults[str(option.name)] = setting
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def read_toml(path: Path) -> tuple[dict[str, Any], str]:
    """What a TOML file says, and its text. Raises UsageError E-CONFIG."""
    text = _read(path)
    return _parse(path, text), text


def refuse(path: Path, reason: str, do: str = "correct the file") -> UsageError:
    """The error of a file that says what can't be."""
    return UsageError("E-CONFIG", path=path, reason=reason, do=do)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        raise refuse(path, "no such file", "check the path") from None
    except OSError as error:
        raise refuse(path, f"can't be read: {error.strerror}", "check the path") from None
    if len(content) > _MAX_BYTES:
        raise refuse(path, "is larger than 1 MiB", "give a TOML file of options")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise refuse(path, f"line {line} is not UTF-8 text", "save it as UTF-8") from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise refuse(path, "is nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        found = _LINE.search(str(error))
        lines = text.rstrip().split("\n")
        number = int(found[1]) if found and found[1] else len(lines)
        words = _LINE.sub("", str(error))
        if words == "Cannot overwrite a value":
            words = "this key is given for the second time"
        reason = f"line {number} ({lines[number - 1].strip()}): {words}"
        raise refuse(path, reason, "correct it; the file is TOML") from None


def line_of(text: str, key: str, section: str = "") -> str:
    """ "line 3: ", or nothing where the key is not written as itself; section: that it is in."""
    begin = _written(text, section, 0) if section else 0
    found = None if begin is None else _written(text, key, begin)
    return "" if found is None else f"line {text[:found].count(chr(10)) + 1}: "


def _written(text: str, name: str, begin: int) -> int | None:
    """Where a line begins with a key or the name of a section."""
    pattern = rf"""^[ \t]*["'\[]*{re.escape(name)}["'\]]*[ \t]*(?:[=.]|$)"""
    found = re.compile(pattern, re.MULTILINE).search(text, begin)
    return found.start() if found else None


def _wanted(option: click.Parameter, setting: Any) -> str:
    """How a value of the option is written, "" if `setting` is one.

    click would take much for something else: "yes" for true, 3.7 and true for whole numbers.
    """
    kind = option.type
    if isinstance(option, click.Option) and option.is_flag:
        fits, words = isinstance(setting, bool), "true or false"
    elif isinstance(kind, click.types.IntParamType):
        fits, words = type(setting) is int, "a whole number"
    elif isinstance(kind, click.types.FloatParamType):
        fits, words = type(setting) in (int, float), "a number"
    elif kind.name == "length":
        fits, words = type(setting) in (int, float, str), "a number, or text in quotes"
    elif kind.name == "channel":
        fits, words = type(setting) in (int, str), "a whole number, or text in quotes"
    elif kind.name in ("bands", "names"):
        fits, words = isinstance(setting, str | list), "a list, or text in quotes"
    else:
        fits, words = isinstance(setting, str), "text in quotes"
    return "" if fits else words


def _shown(setting: Any) -> str:
    """A value as its file writes it."""
    if isinstance(setting, dict):
        return "a table"
    return str(setting).lower() if isinstance(setting, bool) else repr(setting)
