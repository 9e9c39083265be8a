"""The options of how regions are measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, cast, get_args

import click

from tilseg.cli.sections import together
from tilseg.cli.values import Area, ClassValues, InstanceWay, Names
from tilseg.instance_rule import Border, InstanceRule
from tilseg.plan import AreaUnit, PolygonFormat, RegionOptions

POLYGON_FORMATS: tuple[PolygonFormat, ...] = get_args(PolygonFormat)

# What `chosen_regions` takes.
region_options = together(
    click.option(
        "--connectivity",
        type=click.Choice(["4", "8"]),
        default="8",
        show_default=True,
        help="Neighbours of a pixel in its region.",
    ),
    click.option(
        "--min-area",
        type=Area(),
        metavar="AREA",
        help="Leave out smaller regions: 30 pixels, 25um2, 500m2, 0.5ha.",
    ),
    click.option("--shape", is_flag=True, help="Measure convex hulls too."),
    click.option(
        "--only",
        type=ClassValues(),
        metavar="CLASSES",
        help="Leave out the regions of all other classes: 1,3.",
    ),
    click.option(
        "--instances",
        type=InstanceWay(),
        default="own",
        metavar="WAY",
        help="Tell objects apart that touch: watershed[:DEPTH], border[:RADIUS], or none.  "
        "[default: as the model or the run says]",
    ),
    click.option(
        "--border-class",
        type=click.IntRange(0),
        metavar="N",
        help="The class of borders for --instances border.  [default: the one named border]",
    ),
    click.option("--labels", is_flag=True, help="Write labels.zarr too: numbers of regions."),
    click.option(
        "--polygons",
        type=Names("--polygons", POLYGON_FORMATS),
        metavar="FORMATS",
        help=f"Write outlines of regions too: {', '.join(POLYGON_FORMATS)}.",
    ),
    click.option(
        "--simplify",
        type=click.FloatRange(min=0),
        metavar="PIXELS",
        help="Simplify outlines by about so much; common sides stay common.",
    ),
)


def chosen_regions(
    *,
    connectivity: str,
    min_area: tuple[float, str] | None,
    shape: bool,
    only: tuple[int, ...] | None,
    instances: InstanceRule | Literal["own"] | None,
    border_class: int | None,
    labels: bool,
    polygons: tuple[PolygonFormat, ...] | None,
    simplify: float | None,
) -> RegionOptions:
    """What the options of `region_options` ask for."""
    if simplify and not polygons:
        raise click.UsageError("--simplify is of outlines; ask for these with --polygons")
    least, unit = min_area or (0.0, "px")
    if border_class is not None:
        if not isinstance(instances, Border):
            raise click.UsageError("--border-class goes with --instances border; add that")
        instances = replace(instances, border=border_class)
    return RegionOptions(
        connectivity=4 if connectivity == "4" else 8,
        shape=shape,
        labels=labels,
        min_area=least,
        area_unit=cast("AreaUnit", unit),
        instances=instances,
        only=only or (),
        polygons=polygons or (),
        simplify=simplify or 0.0,
    )
