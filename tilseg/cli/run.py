"""`tilseg run IMAGE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from tilseg.cli.options import plan_options
from tilseg.cli.sections import SectionedCommand
from tilseg.cli.values import Duration, Names, ShardPart

if TYPE_CHECKING:
    from tilseg.cli.asked import Asked
    from tilseg.shard import Shard
    from tilseg.verbs.run import RunReport

DEGRADED = 3


@click.command(name="run", cls=SectionedCommand)
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    help="Result directory, one file (x.tif, x.zarr), or a folder of results (results/).  "
    "[default: IMAGE's name with .tilseg, here]",
)
@plan_options
@click.option(
    "--outputs",
    type=Names("--outputs", ("zarr", "tif")),
    default="zarr,tif",
    show_default=True,
    help="Masks to write.",
)
@click.option(
    "--processes",
    is_flag=True,
    help="Make --workers processes instead of threads; several GPUs always get one each.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS|FILE",
    help="Run on a Dask scheduler: tcp://host:port, or its scheduler file.",
)
@click.option(
    "--cluster",
    "batch_system",
    type=click.Choice(["slurm"]),
    help="Run on jobs of SLURM, as the section [slurm] of the --config file describes them.",
)
@click.option(
    "--shard",
    type=ShardPart(),
    metavar="K/N",
    help="Do part K of N: of the blocks, and the last part to end publishes; or of many images.",
)
@click.option(
    "--on-bad-tile",
    type=click.Choice(["fail", "mask"]),
    default="fail",
    show_default=True,
    help="What to do about tiles that can't be computed.",
)
@click.option(
    "--stop-after",
    type=Duration(),
    help="Stop after a time such as 3h50m, to be continued (exit 75).",
)
@click.option("--overwrite", is_flag=True, help="Replace a result or unfinished run that differs.")
@click.option(
    "--break-lock",
    is_flag=True,
    help="Own the output though another run seems to; for when that one is known to be dead.",
)
@click.option("--json", "as_json", is_flag=True, help="Print summary.json instead of a table.")
def command(
    images: tuple[str, ...],
    output: str | None,
    workers: int | None,
    outputs: tuple[str, ...],
    processes: bool,
    scheduler: str | None,
    batch_system: str | None,
    shard: Shard | None,
    on_bad_tile: Literal["fail", "mask"],
    stop_after: float | None,
    overwrite: bool,
    break_lock: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Segment IMAGE into a mask, or many images into a folder of results.

    Writes IMAGE.tilseg with report.html to look at, mask.zarr, mask.tif, a table of regions as
    regions.parquet and regions.csv, summary.json and the receipt run.json. A run that was interrupted is continued
    by the same command and ends in the same bytes.

    Several IMAGEs, a manifest in CSV, or -o with a slash at its end (results/) make a batch: patterns
    in quotes then stand for many images, results that are there are left, one bad image does not stop
    the others, and results/ gets batch.csv and batch.html. Otherwise a pattern is one scene.
    """
    from tilseg.cli.asked import Asked, chosen_computing
    from tilseg.cli.batched import is_batch, run_batch

    computing = chosen_computing(
        workers, processes=processes, scheduler=scheduler, batch_system=batch_system
    )
    asked = Asked(
        computing=computing,
        outputs=outputs,
        on_bad_tile=on_bad_tile,
        overwrite=overwrite,
        break_lock=break_lock,
        shard=shard,
        stop_after=stop_after,
        as_json=as_json,
        choices=computing.planned_there(choices),
    )
    if is_batch(images, output):
        run_batch(images, output, asked)
    else:
        _run_one(images[0], output, asked)


def _run_one(image: str, output: str | None, asked: Asked) -> None:
    """Segment an image, and tell of it."""
    if asked.shard and asked.overwrite:
        # Every shard would remove what the others have done.
        raise click.UsageError(
            "--shard and --overwrite exclude each other; remove the result first"
        )
    # Loaded here alone: a batch with nothing to do needs no engine.
    from tilseg.cli.endings import show_report

    report, result = _segment(image, output, asked)
    if asked.as_json:
        click.echo(json.dumps(report.summary, indent=1))
    else:
        show_report(report, result)
    if report.bad:
        raise click.exceptions.Exit(DEGRADED)


def _segment(image: str, output: str | None, asked: Asked) -> tuple[RunReport, Path]:
    """The report of the run, and where its result is."""
    from tilseg.cli.planned import planned
    from tilseg.cli.stopping import stopping
    from tilseg.cli.terminal import ProgressDisplay
    from tilseg.source import image_name
    from tilseg.verbs.run import run

    at = asked.computing
    with (
        stopping(asked.stop_after) as stop,
        ProgressDisplay() as display,
        planned(image, workers=at.workers, processes=at.sharing, **asked.choices) as (_, _, plan),
    ):
        result = Path(output or f"{image_name(plan.source)}.tilseg")
        report = run(
            plan,
            result,
            outputs=asked.outputs,
            cluster=at.cluster(plan.device),
            overwrite=asked.overwrite,
            break_lock=asked.break_lock,
            on_bad_tile=asked.on_bad_tile,
            shard=(asked.shard.number, asked.shard.count) if asked.shard else None,
            progress=display.update,
            stop=stop,
        )
    return report, result
