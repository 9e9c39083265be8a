"""`tilseg change BEFORE AFTER`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tilseg.cli.region_options import chosen_regions, region_options

if TYPE_CHECKING:
    from tilseg.changes.change import Change


@click.command(name="change")
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for the change mask, its regions, tables and change.html.",
)
@click.option("--align", is_flag=True, help="Bring AFTER to the grid of BEFORE, if it has another.")
@click.option(
    "--ignore",
    type=int,
    multiple=True,
    help="Value that is no class; may be repeated.  [default: 255, 65535 and nodata]",
)
@click.option(
    "--legend",
    type=click.Path(path_type=Path),
    help="JSON file: which colours or numbers are which class, and how it is called.",
)
@region_options
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(
    before: Path,
    after: Path,
    output: Path | None,
    align: bool,
    ignore: tuple[int, ...],
    legend: Path | None,
    as_json: bool,
    **choices: Any,
) -> None:
    """Say what changed from the mask BEFORE to the mask AFTER: how much went from class to class.

    Both are masks in any format that can be read, or results of runs.
    """
    from tilseg.cli.terminal import ProgressDisplay
    from tilseg.verbs.change import change

    regions = chosen_regions(**choices)
    if output is None and (regions.labels or regions.polygons):
        raise click.UsageError(
            "--labels and --polygons need a folder for their files; give it with -o"
        )
    with ProgressDisplay() as display:
        found = change(
            before,
            after,
            output=output,
            align=align,
            ignore=ignore or None,
            legend=legend,
            regions=regions,
            progress=display.advance,
        )
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    _print(found, output)


def _print(found: Change, output: Path | None) -> None:
    from tilseg.changes.words import TRANSITION_HEADS, facts, ordered, transition_cells
    from tilseg.cli.endings import print_written
    from tilseg.cli.terminal import print_facts, print_table

    for note in found.notes:
        click.echo(note, err=True)
    print_facts(facts(found))
    click.echo()
    # Without a mask, nothing has its values or regions.
    columns = slice(None) if output is not None else slice(1, -1)
    rows = [transition_cells(found, each)[columns] for each in ordered(found)]
    heads = TRANSITION_HEADS[columns]
    figures = ("pixels", "of compared", "area", "regions")
    print_table(heads, rows, right=[n for n, head in enumerate(heads) if head in figures])
    if output is not None:
        click.echo()
        print_written(output)
