"""How the values of options are written: lists of bands and names, times, lengths and areas."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Literal

import click

from tilseg.errors import UsageError
from tilseg.instance_rule import MAX_RADIUS, Border, InstanceRule, Watershed
from tilseg.shard import Shard


class BandList(click.ParamType[tuple[int, ...]]):
    """Band numbers, counted from 1, in the order the model wants them: 4,3,2."""

    name = "bands"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple | list):
            value = ",".join(map(str, value))
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            raise UsageError("E-BAND-LIST", bands=value) from None


class Names(click.ParamType[tuple[str, ...]]):
    """Names separated by commas, each one of `allowed`."""

    name = "names"

    def __init__(self, option: str, allowed: tuple[str, ...]) -> None:
        self.option = option
        self.allowed = allowed

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        parts = value if isinstance(value, tuple | list) else str(value).split(",")
        for part in parts:
            if part not in self.allowed:
                allowed = ", ".join(self.allowed)
                raise UsageError("E-OPTION", option=self.option, value=part, allowed=allowed)
        # In one order, so that "tif,zarr" and "zarr,tif" are the same run.
        return tuple(name for name in self.allowed if name in parts)


class ClassValues(click.ParamType[tuple[int, ...]]):
    """Values of classes: 1,3."""

    name = "bands"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        parts = value if isinstance(value, tuple | list) else str(value).split(",")
        if not all(str(part).isdecimal() for part in parts):
            allowed = "values of classes such as 1,3"
            raise UsageError("E-OPTION", option=param.opts[0], value=value, allowed=allowed)
        return tuple(sorted({int(part) for part in parts}))


A_TIME = "a time such as 55m, 3h50m or 90s"


def seconds_of(text: str) -> float | None:
    """Seconds of a time such as 55m, 3h50m or 90s; None for anything else."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text)
    if not match or not any(match.groups()):
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


class Duration(click.ParamType[float]):
    """A time such as 55m, 3h50m or 90s, in seconds."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        seconds = seconds_of(str(value))
        if seconds is None:
            raise UsageError("E-OPTION", option=param.opts[0], value=value, allowed=A_TIME)
        return seconds


class ShardPart(click.ParamType[Shard]):
    """Part K of N of a job: 3/20."""

    name = "shard"

    def convert(self, value: Any, param: Any, ctx: Any) -> Shard:
        return value if isinstance(value, Shard) else Shard.parse(str(value))


class Length(click.ParamType[str]):
    """A pixel size; what it may be is for the image to say."""

    name = "length"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        return str(value)


class Channel(click.ParamType[int | str]):
    """The number of a channel, counted from 0, or the name that the file gives it."""

    name = "channel"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        return int(value) if str(value).isdecimal() else str(value)


class Area(click.ParamType[tuple[float, str]]):
    """A number of pixels, or an area with its unit: 30, 25um2, 0.5ha."""

    name = "area"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, str]:
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(px|um2|mm2|m2|ha|km2)?", str(value))
        if not match:
            allowed = "pixels such as 30, or an area such as 25um2, 500m2 or 0.5ha"
            raise UsageError("E-OPTION", option=param.opts[0], value=value, allowed=allowed)
        return float(match[1]), match[2] or "px"


class InstanceWay(click.ParamType[InstanceRule | Literal["own"] | None]):
    """own, none, or a way to tell instances apart with its pixels: watershed:1.5, border:4."""

    name = "way"

    def convert(self, value: Any, param: Any, ctx: Any) -> InstanceRule | Literal["own"] | None:
        if value in ("own", "none"):
            return "own" if value == "own" else None
        way, colon, pixels = str(value).partition(":")
        # What is no number of pixels is refused like any other word.
        with suppress(ValueError):
            if way == "watershed":
                return Watershed(float(pixels)) if colon else Watershed()
            if way == "border":
                return Border(int(pixels)) if colon else Border()
        allowed = f"own, none, watershed:PIXELS or border:PIXELS (0 to {MAX_RADIUS})"
        raise UsageError("E-OPTION", option=param.opts[0], value=value, allowed=allowed)
