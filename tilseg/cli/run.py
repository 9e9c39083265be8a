"""`tilseg run IMAGE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tilseg.cli.options import Names, plan_options


@click.command(name="run")
@click.argument("image")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Result directory.  [default: IMAGE's name with .tilseg, here]",
)
@plan_options
@click.option(
    "--outputs",
    type=Names("--outputs", ("zarr", "tif")),
    default="zarr,tif",
    show_default=True,
    help="Masks to write.",
)
@click.option("--overwrite", is_flag=True, help="Replace a result or unfinished run that differs.")
@click.option("--json", "as_json", is_flag=True, help="Print summary.json instead of a table.")
def command(
    image: str,
    output: Path | None,
    workers: int,
    outputs: tuple[str, ...],
    overwrite: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Segment IMAGE into a mask.

    Writes IMAGE.tilseg with mask.zarr, mask.tif, summary.json and the receipt run.json. A run
    that was interrupted is continued by the same command and ends in the same bytes.
    """
    from tilseg.cli.planned import planned
    from tilseg.cli.terminal import ProgressDisplay, print_summary
    from tilseg.verbs.run import run

    output = output or Path(f"{Path(image).stem}.tilseg")
    with planned(image, workers=workers, **choices) as (_, _, plan), ProgressDisplay() as display:
        report = run(
            plan,
            output,
            outputs=outputs,
            workers=workers,
            overwrite=overwrite,
            progress=display.update,
        )
    if as_json:
        click.echo(json.dumps(report.summary, indent=1))
    else:
        print_summary(report, output)
