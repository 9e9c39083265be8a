"""Options that several verbs share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import click

from tilseg.cli.config import load_config
from tilseg.errors import UsageError
from tilseg.instance_rule import MAX_RADIUS, Border, InstanceRule, Watershed
from tilseg.plan import AreaUnit, PolygonFormat, RegionOptions
from tilseg.shard import Shard

POLYGON_FORMATS: tuple[PolygonFormat, ...] = get_args(PolygonFormat)


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


def region_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of how regions are measured, which `chosen_regions` takes."""
    options = [
        click.option(
            "--connectivity",
            type=click.Choice(["4", "8"]),
            default="8",
            show_default=True,
            help="Neighbours of a pixel in its region.",
        ),
        click.option(
            "--min-area",
            type=Area(),
            metavar="AREA",
            help="Leave out smaller regions: 30 pixels, 25um2, 500m2, 0.5ha.",
        ),
        click.option("--shape", is_flag=True, help="Measure convex hulls too."),
        click.option(
            "--only",
            type=ClassValues(),
            metavar="CLASSES",
            help="Leave out the regions of all other classes: 1,3.",
        ),
        click.option(
            "--instances",
            type=InstanceWay(),
            default="own",
            metavar="WAY",
            help="Tell objects apart that touch: watershed[:DEPTH], border[:RADIUS], or none.  "
            "[default: as the model or the run says]",
        ),
        click.option(
            "--border-class",
            type=click.IntRange(0),
            metavar="N",
            help="The class of borders for --instances border.  [default: the one named border]",
        ),
        click.option("--labels", is_flag=True, help="Write labels.zarr too: numbers of regions."),
        click.option(
            "--polygons",
            type=Names("--polygons", POLYGON_FORMATS),
            metavar="FORMATS",
            help=f"Write outlines of regions too: {', '.join(POLYGON_FORMATS)}.",
        ),
        click.option(
            "--simplify",
            type=click.FloatRange(min=0),
            metavar="PIXELS",
            help="Simplify outlines by about so much; common sides stay common.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def chosen_regions(
    *,
    connectivity: str,
    min_area: tuple[float, str] | None,
    shape: bool,
    only: tuple[int, ...] | None,
    instances: InstanceRule | Literal["own"] | None,
    border_class: int | None,
    labels: bool,
    polygons: tuple[PolygonFormat, ...] | None,
    simplify: float | None,
) -> RegionOptions:
    """What the options of `region_options` ask for."""
    if simplify and not polygons:
        raise click.UsageError("--simplify is of outlines; ask for these with --polygons")
    least, unit = min_area or (0.0, "px")
    if border_class is not None:
        if not isinstance(instances, Border):
            raise click.UsageError("--border-class goes with --instances border; add that")
        instances = replace(instances, border=border_class)
    return RegionOptions(
        connectivity=4 if connectivity == "4" else 8,
        shape=shape,
        labels=labels,
        min_area=least,
        area_unit=cast("AreaUnit", unit),
        instances=instances,
        only=only or (),
        polygons=polygons or (),
        simplify=simplify or 0.0,
    )


def image_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of how an image is opened."""
    options = [
        click.option("--series", type=click.IntRange(0), help="Image of a file with several."),
        click.option(
            "--channel", type=Channel(), help="One channel instead of all: number or name."
        ),
        click.option("--z", type=click.IntRange(0), help="Plane of a stack, or page of a TIFF."),
        click.option("--t", type=click.IntRange(0), help="Time point of a series."),
        click.option(
            "--palette",
            type=click.Choice(["index", "expand"]),
            help="Numbers of a palette image, or its colours.",
        ),
        click.option(
            "--pixel-size",
            type=Length(),
            help="Of an image that states none or a wrong one: 0.25um, 30cm.",
        ),
        click.option(
            "--align",
            is_flag=True,
            help="Bring the files of a scene to their finest grid, nearest.",
        ),
        click.option(
            "--allow-vrt", is_flag=True, help="Read the TIFFs on this machine that a VRT names."
        ),
        click.option(
            "--allow-remote", is_flag=True, help="Read a TIFF at an http or https address."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def image_choices(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Of all options those of `image_options`, which `open_source` takes."""
    names = ("series", "channel", "z", "t", "palette", "pixel_size")
    return {name: choices[name] for name in (*names, "align", "allow_vrt", "allow_remote")}


def network_choices(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Of all options those that `load_model` takes."""
    return {name: choices[name] for name in ("device", "precision", "tta", "threads")}


def plan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that decide a plan, for `run` and `plan`."""
    options = [
        click.option(
            "--model",
            help="Bundled name or model file.  [default: water for an image on a map, else nuclei]",
        ),
        click.option(
            "--tile",
            type=int,
            metavar="N",
            help="Output step in pixels; a multiple of the model's stride.  [default: chosen]",
        ),
        click.option(
            "--memory",
            metavar="SIZE",
            help="Memory budget, such as 4GB.  [default: 80 % of what there is]",
        ),
        click.option(
            "--workers",
            type=click.IntRange(1, 64),
            help="Blocks under way at once, or processes.  [default: chosen]",
        ),
        click.option(
            "--threads",
            type=click.IntRange(1),
            help="CPU threads of one prediction; they decide the last bits.  [default: chosen]",
        ),
        click.option(
            "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:i."
        ),
        click.option(
            "--precision",
            type=click.Choice(["fp32", "bf16", "int8"]),
            default="fp32",
            show_default=True,
            help="bf16 and int8 are faster and may change labels near ties.",
        ),
        click.option(
            "--tta",
            type=click.Choice(["none", "d4"]),
            default="none",
            show_default=True,
            help="d4 averages over eight flips and turns of every tile, in eight times the time.",
        ),
        click.option(
            "--bands", type=BandList(), help="Bands for the model, counted from 1: 3,2,1."
        ),
        click.option(
            "--level", type=int, help="Pyramid level to segment; 0 is the finest.  [default: 0]"
        ),
        click.option(
            "--mpp",
            "--resolution",
            "resolution",
            type=Length(),
            help="Pixel size to segment at: 0.5um, 10m, a number in the image's unit, or native "
            "for the image's own.  [default: the model's, if both are known]",
        ),
        click.option(
            "--probabilities", is_flag=True, help="Keep the probabilities of every class too."
        ),
        click.option(
            "--tissue",
            metavar="auto|none|FILE",
            help="Segment only tissue, as found or as a mask shows it.  [default: as the model asks]",
        ),
        click.option(
            "--roi",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Segment only inside the polygons of a GeoJSON file.",
        ),
        click.option("--no-regions", is_flag=True, help="Do not measure regions."),
        click.option(
            "--allow-inexact",
            is_flag=True,
            help="Take a model whose result depends on the tile, and record by how much.",
        ),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            callback=load_config,
            is_eager=True,
            expose_value=False,
            help="TOML file with any of these options.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return image_options(region_options(command))
