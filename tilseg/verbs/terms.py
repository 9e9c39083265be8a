"""What a run is asked and what it tells: its options, its progress and its report."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tilseg.card import read_card
from tilseg.errors import UsageError
from tilseg.finish import Phase
from tilseg.journal import BadTile
from tilseg.plan import Plan, RegionOptions
from tilseg.receipt import bad_tiles
from tilseg.schedule import IN_PROCESS, Cluster
from tilseg.workspace import Workspace

OUTPUTS = ("zarr", "tif")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase is: `done` of `total` pixels; those of skipped blocks are not counted."""

    phase: Phase
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a run did.

    status: "complete", or "degraded" when tiles had to be left as nodata; "unfinished" when a
    shard has done its blocks and others have not, so that there is no result yet. computed: whether
    anything was done now; False when the result was there already. done: blocks computed now;
    kept: computed in an earlier start; the others were skipped. bad: the tiles left as nodata. summary: the
    content of summary.json; of an unfinished run only "blocks", with "total" and "done".
    """

    status: Literal["complete", "degraded", "unfinished"]
    output: Path
    computed: bool
    done: int
    kept: int
    bad: tuple[BadTile, ...]
    summary: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a plan is carried out; nothing here changes a pixel that can be computed.

    outputs: some of "zarr" (mask.zarr) and "tif" (mask.tif). cluster: where blocks run.
    overwrite: replace a result or an unfinished run that differs; the old one stays until the
    new one is complete. on_bad_tile: "fail" publishes nothing when a tile can't be computed,
    "mask" leaves it as nodata and names it.
    """

    outputs: tuple[str, ...] = OUTPUTS
    cluster: Cluster = IN_PROCESS
    overwrite: bool = False
    on_bad_tile: Literal["fail", "mask"] = "fail"

    def __post_init__(self) -> None:
        for name in self.outputs:
            if name not in OUTPUTS:
                raise UsageError("E-OPTION", option="outputs", value=name, allowed="zarr, tif")


def for_one_file(space: Workspace, plan: Plan, options: RunOptions) -> tuple[Plan, RunOptions]:
    """Plan and options as they are where the output is one file, the mask alone."""
    if not space.single:
        return plan, options
    refused = "probabilities" if plan.probabilities else ""
    if plan.regions not in (None, *_unasked(plan)):
        refused = refused or "tables of regions"
    if refused:
        allowed = f"a result directory, which has room for {refused}"
        raise UsageError("E-OPTION", option="--output", value=space.final.name, allowed=allowed)
    outputs = (Path(space.single).suffix.removeprefix("."),)
    return replace(plan, regions=None), replace(options, outputs=outputs)


def _unasked(plan: Plan) -> tuple[RegionOptions, ...]:
    """The options of regions that a plan has where nobody has chosen any."""
    card = read_card(plan.model)
    names = [info.name for info in card.classes]
    return RegionOptions(instances=None), RegionOptions().settled(card.instances, names)


def finished_report(output: Path, receipt: dict[str, Any]) -> RunReport:
    """The report of a result that was there already."""
    summary = receipt["summary"]
    kept = summary["blocks"]["done"] + summary["blocks"]["kept"]
    return RunReport(receipt["status"], output, False, 0, kept, bad_tiles(receipt), summary)
