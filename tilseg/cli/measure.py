"""`tilseg measure MASK`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np

from tilseg.cli.region_options import chosen_regions, region_options
from tilseg.errors import UsageError

if TYPE_CHECKING:
    from tilseg.regions import RegionTable


class ClassValue(click.ParamType[int | Literal["own"] | None]):
    """A value of a mask, "none", or "own" for what the mask says."""

    name = "value"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | Literal["own"] | None:
        if value in ("none", "own"):
            return None if value == "none" else "own"
        try:
            return int(value)
        except ValueError:
            allowed = "a value of the mask, or none"
            raise UsageError(
                "E-OPTION", option=param.opts[0], value=value, allowed=allowed
            ) from None


@click.command(name="measure")
@click.argument("mask", type=click.Path(path_type=Path))
@click.option("--image", type=click.Path(path_type=Path), help="Image under it, for intensities.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for regions.parquet and regions.csv.  [default: totals of classes are shown]",
)
@region_options
@click.option(
    "--nodata",
    type=ClassValue(),
    default="own",
    help="Value without a class, or none.  [default: the mask's own]",
)
@click.option(
    "--background",
    type=ClassValue(),
    default="own",
    help="Class that forms no regions, or none.  [default: the mask's own, or 0]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the totals as JSON.")
def command(
    mask: Path,
    image: Path | None,
    output: Path | None,
    nodata: int | Literal["own"] | None,
    background: int | Literal["own"] | None,
    as_json: bool,
    **choices: Any,
) -> None:
    """Measure the regions of MASK, as if it had never been cut.

    MASK is a mask in any format that can be read, or the result of a run.
    """
    from tilseg.cli.terminal import ProgressDisplay
    from tilseg.verbs.measure import measure

    regions = chosen_regions(**choices)
    if regions.labels and output is None:
        raise click.UsageError("--labels needs a folder for labels.zarr; give it with -o")
    if regions.polygons and output is None:
        raise click.UsageError("--polygons needs a folder for its files; give it with -o")

    with ProgressDisplay() as display:
        found = measure(
            mask,
            image=image,
            output=output,
            regions=regions,
            nodata=nodata,
            background=background,
            progress=lambda done, total: display.advance("measure", done, total),
        )
    if as_json:
        click.echo(json.dumps(_totals(found), indent=1))
        return
    _print(found, output)


def _print(regions: RegionTable, output: Path | None) -> None:
    from tilseg.cli.endings import print_written
    from tilseg.cli.terminal import print_table

    rows = [
        (
            str(one["value"]),
            f"{one['regions']:,}",
            f"{one['pixels']:,}",
            "-" if one["area"] is None else f"{one['area']:,.1f} {one['area_unit']}²",
            f"{one['median_pixels']:,g}",
        )
        for one in _totals(regions)["classes"]
    ]
    print_table(("class", "regions", "pixels", "area", "median px"), rows, right=(1, 2, 3, 4))
    if output is not None:
        click.echo()
        print_written(output)


def _totals(regions: RegionTable) -> dict[str, Any]:
    """Regions, pixels and areas of each class that has regions."""
    columns = regions.columns
    unit = next((unit for unit in ("m", "um") if f"area_{unit}2" in columns), None)
    classes = []
    for value in np.unique(columns["class"]).tolist():
        chosen = columns["class"] == value
        pixels = columns["area"][chosen]
        area = None if unit is None else float(columns[f"area_{unit}2"][chosen].sum())
        classes.append(
            {
                "value": value,
                "regions": len(pixels),
                "pixels": int(pixels.sum()),
                "median_pixels": float(np.median(pixels)),
                "area": area,
                "area_unit": unit,
            }
        )
    return {
        "regions": len(regions),
        "classes": classes,
        "background_pixels": regions.background,
        "nodata_pixels": regions.nodata,
    }
