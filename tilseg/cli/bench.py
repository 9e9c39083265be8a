"""`tilseg bench IMAGE`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tilseg.cli.options import plan_options
from tilseg.cli.sections import SectionedCommand

if TYPE_CHECKING:
    from tilseg.verbs.bench import BenchReport


@click.command(name="bench", cls=SectionedCommand)
@click.argument("image")
@plan_options
@click.option(
    "--seconds",
    type=click.FloatRange(0, 600, min_open=True),
    default=2.0,
    show_default=True,
    help="Time to measure each way for.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(image: str, seconds: float, as_json: bool, **choices: Any) -> None:
    """Measure how fast this machine segments IMAGE, by tile, precision and threads.

    Rates are of the network alone, with pixels in memory; `limit` is what matrix products of
    this machine would allow if no context were computed twice. What `run` would do is marked.
    """
    from tilseg.cli.planned import planned
    from tilseg.verbs.bench import bench

    with planned(image, **choices) as (_, _, plan):
        pass
    bar = click.progressbar(length=1, label="measuring", file=sys.stderr)

    def show(done: int, ways: int) -> None:
        bar.length = ways
        bar.update(done - bar.pos)

    with bar:
        report = bench(plan, seconds=seconds, progress=show)
    if as_json:
        click.echo(json.dumps(_facts(report), indent=1))
    else:
        _print(report)


def _facts(report: BenchReport) -> dict[str, Any]:
    plan = report.plan
    return {
        "input": plan.source,
        "model": plan.model,
        "device": plan.device,
        "tta": plan.tta,
        "operations_per_pixel": round(report.operations),
        "matrices": report.matrices,
        "limit": {precision: report.limit(precision) for precision in report.matrices},
        "rates": [asdict(rate) for rate in report.rates],
    }


def _print(report: BenchReport) -> None:
    from tilseg.cli.terminal import print_facts, print_table

    best = {rate.precision: rate for rate in sorted(report.rates, key=lambda rate: rate.pixels)}
    rows = [
        (
            rate.precision,
            f"{rate.tile.cols} x {rate.tile.rows}",
            str(rate.at_once),
            str(rate.threads),
            f"{rate.pixels / 1e6:.2f}",
            f"{100 * rate.of_limit:.0f} %",
            f"{100 * rate.of_halo:.0f} %",
            ", ".join(["run"] * rate.planned + ["fastest"] * (rate is best[rate.precision])),
        )
        for rate in report.rates
    ]
    heads = ("precision", "tile", "at once", "threads", "Mpix/s", "of limit", "halo leaves", "")
    print_table(heads, rows, right=(1, 2, 3, 4, 5, 6))
    click.echo()
    limits = {
        f"limit, {precision}": f"{report.limit(precision) / 1e6:.2f} Mpix/s: matrices at "
        f"{rate / 1e9:.0f} GFLOP/s, {report.operations / 1e3:.1f} kFLOP a pixel"
        for precision, rate in report.matrices.items()
    }
    print_facts(limits | {"run": _comparison(report)})


def _comparison(report: BenchReport) -> str:
    """How a run would do it, and what another way would give."""
    run = next(rate for rate in report.rates if rate.planned)
    same = [rate for rate in report.rates if rate.precision == run.precision]
    best = max(same, key=lambda rate: rate.pixels)
    area = report.plan.grid.shape.area
    said = (
        f"{run.pixels / 1e6:.2f} Mpix/s in {run.precision}, about "
        f"{_time(area / run.pixels)} for this image"
    )
    if best is run:
        return f"{said}; nothing here was faster"
    return f"{said}; {best.pixels / run.pixels:.2f} times as fast with --tile {best.tile.rows}" + (
        f" --threads {best.threads}" if best.threads != run.threads else ""
    )


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
