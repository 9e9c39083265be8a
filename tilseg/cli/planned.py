"""What `run` and `plan` do first: image and model opened, plan made."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from tilseg.cli.options import image_choices
from tilseg.cli.region_options import chosen_regions
from tilseg.default_model import default_model, place
from tilseg.model import Model, load_model
from tilseg.plan import Plan, RegionOptions
from tilseg.planning import make_plan
from tilseg.source import Source, open_source

_log = logging.getLogger("tilseg")


@contextmanager
def planned(
    image: str,
    *,
    model: str | None,
    device: str,
    precision: Any,
    tta: Any,
    threads: int | None = None,
    processes: int | None = None,
    load: Callable[..., Model] = load_model,
    **choices: Any,
) -> Iterator[tuple[Source, Model, Plan]]:
    """The image, the model and the plan that the options ask for.

    processes: that compute on this machine; None for as many as it has GPUs, or one. load: loads
    the model.
    """
    chosen = image_choices(choices)
    choices = {name: value for name, value in choices.items() if name not in chosen}
    of_regions = (
        *("connectivity", "min_area", "shape", "only", "instances", "border_class"),
        *("labels", "polygons", "simplify"),
    )
    regions = chosen_regions(**{name: choices.pop(name) for name in of_regions})
    if choices.pop("no_regions"):
        if regions != RegionOptions():
            raise click.UsageError("--no-regions excludes the options of regions; leave out either")
        choices["regions"] = None
    else:
        choices["regions"] = regions
    source = open_source(image, **chosen)
    try:
        name = model or default_model(source, choices.get("bands"))
        network = load(
            name, device=device_kind(device), precision=precision, threads=threads, tta=tta
        )
        plan = make_plan(
            source,
            network,
            precision=precision,
            threads=threads,
            processes=processes or _gpus(network),
            **choices,
        )
        if model is None:
            _log.info("model %s, for an image %s (--model takes another)", name, place(source))
        yield source, network, plan
    finally:
        source.close()


def _gpus(network: Model) -> int:
    """The GPUs of this machine that a run with `network` would use; 1 on a CPU."""
    if network.device == "cpu":
        return 1
    from tilseg.models.devices import cuda_devices

    return len(cuda_devices())


def device_kind(device: str) -> str:
    """`device`; for cuda:i, this process and its workers see no other from now on."""
    kind, colon, index = device.partition(":")
    if kind != "cuda" or not colon or not index.isdecimal():
        return device
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else []
    if not named:
        os.environ["CUDA_VISIBLE_DEVICES"] = index
    elif int(index) < len(names):
        os.environ["CUDA_VISIBLE_DEVICES"] = names[int(index)]
    else:
        return device
    return kind
