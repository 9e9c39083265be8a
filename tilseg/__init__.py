"""Exact segmentation of images too large for memory.

    source = tilseg.open_source("slide.svs")
    model = tilseg.load_model("nuclei")
    plan = tilseg.make_plan(source, model, memory="4GB")
    report = tilseg.run(plan, "slide.tilseg")
    regions = tilseg.measure("slide.tilseg", image=source)
    score = tilseg.evaluate("slide.tilseg", "truth.tif")
    changed = tilseg.change("2009.tilseg", "2012.tilseg")

Importing this package loads no heavy library; each name is fetched when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tilseg.changes.change import Change
    from tilseg.errors import TilsegError
    from tilseg.instance_rule import Border, Watershed
    from tilseg.metrics.score import Score
    from tilseg.model import load_model
    from tilseg.plan import RegionOptions
    from tilseg.planning import make_plan
    from tilseg.regions import RegionTable
    from tilseg.source import open_source
    from tilseg.verbs.change import change
    from tilseg.verbs.evaluate import evaluate
    from tilseg.verbs.measure import measure
    from tilseg.verbs.run import RunReport, run
    from tilseg.verbs.shards import finish_shards
    from tilseg.verbs.verify import verify

__version__ = "0.1.0"

_HOME = {
    "Border": "tilseg.instance_rule",
    "Change": "tilseg.changes.change",
    "RegionOptions": "tilseg.plan",
    "RegionTable": "tilseg.regions",
    "RunReport": "tilseg.verbs.run",
    "Score": "tilseg.metrics.score",
    "TilsegError": "tilseg.errors",
    "Watershed": "tilseg.instance_rule",
    "bench": "tilseg.verbs.bench",
    "change": "tilseg.verbs.change",
    "evaluate": "tilseg.verbs.evaluate",
    "finish_shards": "tilseg.verbs.shards",
    "load_model": "tilseg.model",
    "make_plan": "tilseg.planning",
    "measure": "tilseg.verbs.measure",
    "open_source": "tilseg.source",
    "run": "tilseg.verbs.run",
    "verify": "tilseg.verbs.verify",
}

__all__ = [
    "Border",
    "Change",
    "RegionOptions",
    "RegionTable",
    "RunReport",
    "Score",
    "TilsegError",
    "Watershed",
    "bench",
    "change",
    "evaluate",
    "finish_shards",
    "load_model",
    "make_plan",
    "measure",
    "open_source",
    "run",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'tilseg' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
