"""`tilseg evaluate PRED TRUTH`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tilseg.metrics.score import Score


@click.command(name="evaluate")
@click.argument("pred", type=click.Path(path_type=Path))
@click.argument("truth", type=click.Path(path_type=Path))
@click.option(
    "--objects",
    is_flag=True,
    help="The numbers of PRED and TRUTH are objects, not classes; of a result, its labels.zarr.",
)
@click.option(
    "--ignore",
    type=int,
    multiple=True,
    help="Value that is no class; may be repeated.  [default: 255, 65535 and nodata]",
)
@click.option("--align", is_flag=True, help="Bring a TRUTH on another grid to the grid of PRED.")
@click.option(
    "--legend",
    type=click.Path(path_type=Path),
    help="JSON file: which colours, numbers or names in TRUTH are which class.",
)
@click.option(
    "--tolerance",
    type=float,
    default=2.0,
    show_default=True,
    help="Distance in pixels at which outlines still agree.",
)
@click.option(
    "--connectivity",
    type=click.Choice(["4", "8"]),
    default="8",
    show_default=True,
    help="Neighbours of a pixel in its object.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for evaluation.html, evaluation.json and pictures.",
)
@click.option("--json", "as_json", is_flag=True, help="Print evaluation.json instead of a table.")
def command(
    pred: Path,
    truth: Path,
    ignore: tuple[int, ...],
    connectivity: str,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare the mask PRED with the TRUTH, pixel by pixel and object by object.

    PRED is a mask in any format that can be read, or the result of a run. TRUTH is another, or
    polygons: GeoJSON, COCO or GeoPackage.
    """
    from tilseg.cli.terminal import ProgressDisplay
    from tilseg.verbs.evaluate import evaluate

    with ProgressDisplay() as display:
        score = evaluate(
            pred,
            truth,
            ignore=ignore or None,
            connectivity=4 if connectivity == "4" else 8,
            output=output,
            progress=lambda done, total: display.advance("compare", done, total),
            **options,
        )
    if as_json:
        click.echo(json.dumps(score.to_json(), indent=1))
        return
    _print(score, output)


def _print(score: Score, output: Path | None) -> None:
    from tilseg.cli.endings import print_written
    from tilseg.cli.terminal import print_facts, print_table
    from tilseg.metrics.summary import (
        OBJECT_HEADS,
        PIXEL_HEADS,
        label,
        object_cells,
        overall,
        pixel_cells,
    )

    for note in score.notes:
        click.echo(note, err=True)
    compared = f"{score.pixels:,} compared, {score.ignored:,} ignored"
    print_facts(
        {
            "pixels": f"{compared}, {score.not_predicted:,} without prediction",
            **{name: f"{value:>7}  {what}" for name, value, what in overall(score)},
        }
    )
    click.echo()
    rows = [(label(each), *pixel_cells(each)) for each in score.classes]
    print_table(("class", *PIXEL_HEADS), rows, right=range(1, 8))
    counted = [(label(each), each.objects) for each in score.classes]
    rows = [(name, *object_cells(objects)) for name, objects in counted if objects is not None]
    if rows:
        click.echo()
        print_table(("class", *OBJECT_HEADS), rows, right=range(1, 7))
    if output is not None:
        click.echo()
        print_written(output)
