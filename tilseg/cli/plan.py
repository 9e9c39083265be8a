"""`tilseg plan IMAGE`."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from tilseg.cli.options import plan_options
from tilseg.cli.sections import SectionedCommand
from tilseg.georef import Factors, PixelSize

if TYPE_CHECKING:
    from tilseg.model import Model
    from tilseg.plan import Plan


@click.command(name="plan", cls=SectionedCommand)
@click.argument("image")
@plan_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(image: str, workers: int | None, as_json: bool, **choices: Any) -> None:
    """Show how IMAGE would be segmented, without doing it.

    What `run` would refuse is refused here too, with the same message and exit code.
    """
    from tilseg.cli.planned import planned
    from tilseg.cli.terminal import print_facts
    from tilseg.sources.planned import as_planned
    from tilseg.tiling import needed_memory
    from tilseg.where.chosen import skipped_blocks

    with planned(image, workers=workers, **choices) as (source, model, plan):
        grid, resampled = plan.grid, as_planned(source, plan)
        level = resampled.levels[plan.level]
        pixel = resampled.georef.decimated(level.row_factor, level.col_factor).pixel_size
        memory = needed_memory(
            grid,
            plan.lanes,
            resampled,
            model,
            workers,
            probabilities=plan.probabilities,
            regions=plan.regions is not None,
        )
    skipped: dict[str, int] = dict(Counter(skipped_blocks(plan.selection, grid).values()))
    if as_json:
        click.echo(json.dumps(_figures(plan, model, pixel, skipped, memory), indent=1))
    else:
        print_facts(_facts(plan, model, pixel, skipped, memory))


def _figures(
    plan: Plan, model: Model, pixel: PixelSize | None, skipped: dict[str, int], memory: int
) -> dict[str, Any]:
    """What `--json` prints; sizes are rows, cols."""
    grid = plan.grid
    return {
        "input": plan.source,
        "width": grid.shape.cols,
        "height": grid.shape.rows,
        "pixel_size": [pixel.rows, pixel.cols] if pixel else None,
        "unit": pixel.unit if pixel else None,
        "resampling": plan.factors,
        "model": model.card.name,
        "tile": list(grid.tile),
        "tile_input": list(grid.input),
        "tiles": grid.tile_counts.area,
        "block": list(grid.block),
        "blocks": len(grid),
        "skipped": skipped,
        "halo": grid.field.halo,
        "stride": grid.field.stride,
        "tta": plan.tta,
        "redundancy": round(plan.redundancy, 4),
        "bands": [band + 1 for band in plan.bands],
        "level": plan.level,
        "device": plan.device,
        "precision": plan.precision,
        "threads": plan.threads,
        "lanes": plan.lanes,
        "memory_bytes": memory,
        "mask_bytes": grid.shape.area,
    }


def _facts(
    plan: Plan, model: Model, pixel: PixelSize | None, skipped: dict[str, int], memory: int
) -> dict[str, str]:
    """The table for people; sizes are columns x rows."""
    from tilseg.budget import format_bytes
    from tilseg.report.words import skipped_text

    grid = plan.grid
    left = f"; {skipped_text(skipped)}" if skipped else ""
    turns = ", each tile in eight positions" if plan.tta == "d4" else ""
    return {
        "image": f"{plan.source}, {_by(grid.shape)} px, level {plan.level}",
        "pixel size": _size(pixel, plan.factors),
        "bands": ", ".join(str(band + 1) for band in plan.bands),
        "model": f"{model.card.name}: halo {grid.field.halo}, stride {grid.field.stride}",
        "tile": f"{_by(grid.tile)} px, from an input of {_by(grid.input)}",
        "tiles": f"{grid.tile_counts.area:,} ({_by(grid.tile_counts)})",
        "blocks": f"{len(grid):,} of {_by(grid.block)} px{left}",
        "redundancy": f"{plan.redundancy:.2f} pixels computed for each kept{turns}",
        "device": f"{plan.device}, {plan.precision}",
        "at once": f"{plan.lanes} tiles, CPU threads of each: {plan.threads}",
        "memory": f"{format_bytes(memory)} at most",
        "mask": f"{format_bytes(grid.shape.area)} before compression",
    }


def _size(pixel: PixelSize | None, factors: Factors | None) -> str:
    shown = f"{pixel.cols:.6g} x {pixel.rows:.6g} {pixel.unit}" if pixel else "not stated"
    if factors is None:
        return shown
    return f"{shown}, resampled: {factors.cols:.4g} x {factors.rows:.4g} of the image's pixels"


def _by(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"
