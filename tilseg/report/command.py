"""The command that makes a result again, from what its plan says."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tilseg.card import Card
from tilseg.choice import Choice, split_uri
from tilseg.instance_rule import Border, InstanceRule, Watershed
from tilseg.model import bundled_models
from tilseg.plan import Plan, RegionOptions
from tilseg.resolution import resolution_of
from tilseg.selection import Selection
from tilseg.source import Source
from tilseg.sources.array import SCHEME


def command_of(
    plan: Plan, card: Card, image: Source, outputs: tuple[str, ...], *, masked: bool
) -> str | None:
    """A line for a shell; None for an image that no command can open.

    image: the plan's, as it is. outputs: masks that were written. masked: whether tiles were left
    out. What tilseg chose for itself is left to it: it chooses the same on the same machine.
    """
    if plan.source.startswith(SCHEME):
        return None
    name, choice = split_uri(plan.source)
    words = ["tilseg", "run", name, "--model", _model(plan.model)]
    words += [f"--{word}" for word in _of_image(choice)]
    words += [f"--{word}" for word in _of_plan(plan, card, image)]
    words += [f"--{word}" for word in _of_selection(plan.selection, card)]
    words += [f"--{word}" for word in _of_regions(plan.regions, card)]
    words += ["--on-bad-tile=mask"] * masked
    words += [f"--outputs={','.join(outputs)}"] * (len(outputs) == 1)
    return shlex.join(words)


def _model(path: str) -> str:
    names = (name for name, file in bundled_models().items() if file == Path(path))
    return next(names, path)


def _of_image(choice: Choice) -> Iterator[str]:
    for name in ("series", "channel", "z", "t", "palette", "pixel_size"):
        value = getattr(choice, name)
        if value is not None:
            yield f"{name.replace('_', '-')}={value}"
    flags = {"align": choice.align, "allow-vrt": choice.vrt, "allow-remote": choice.remote}
    yield from (flag for flag, value in flags.items() if value is not None)


def _of_plan(plan: Plan, card: Card, image: Source) -> Iterator[str]:
    asked = {
        "bands": ",".join(str(band + 1) for band in plan.bands),
        "level": plan.level,
        "tile": max(plan.grid.tile),
        "threads": plan.threads,
    }
    yield from (f"{name}={value}" for name, value in asked.items() if name not in plan.auto)
    resolution = resolution_of(image, card, plan.factors) if "level" in plan.auto else None
    if resolution is not None:
        yield f"mpp={resolution}"
    if plan.precision != "fp32":
        yield f"precision={plan.precision}"
    yield f"device={plan.device}"
    if plan.tta != "none":
        yield f"tta={plan.tta}"
    if plan.probabilities:
        yield "probabilities"
    if card.inexact:
        yield "allow-inexact"


def _of_selection(selection: Selection, card: Card) -> Iterator[str]:
    origin = "none" if selection.tissue is None else selection.tissue.origin
    if origin != card.tissue:
        yield f"tissue={origin}"
    if selection.roi is not None:
        yield f"roi={selection.roi.path}"


def _of_regions(regions: RegionOptions | None, card: Card) -> Iterator[str]:
    if regions is None:
        yield "no-regions"
        return
    own = RegionOptions().settled(card.instances, [info.name for info in card.classes]).rule
    if regions.rule != own:
        yield from _of_instances(regions.rule)
    if regions.connectivity != 8:
        yield f"connectivity={regions.connectivity}"
    if regions.min_area:
        unit = "" if regions.area_unit == "px" else regions.area_unit
        yield f"min-area={np.format_float_positional(regions.min_area, trim='-')}{unit}"
    if regions.only:
        yield f"only={','.join(map(str, regions.only))}"
    yield from (name for name in ("shape", "labels") if getattr(regions, name))
    if regions.polygons:
        yield f"polygons={','.join(regions.polygons)}"
    if regions.simplify:
        yield f"simplify={regions.simplify!r}"


def _of_instances(rule: InstanceRule | None) -> Iterator[str]:
    if isinstance(rule, Watershed):
        yield f"instances=watershed:{rule.depth!r}"
    elif isinstance(rule, Border):
        yield f"instances=border:{rule.radius}"
        yield f"border-class={rule.border}"
    else:
        yield "instances=none"
