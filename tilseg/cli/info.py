"""`tilseg info IMAGE`."""

from __future__ import annotations

import json
import math
from typing import Any

import click

from tilseg.cli.options import image_options


@click.command(name="info")
@click.argument("image")
@image_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(image: str, as_json: bool, **chosen: Any) -> None:
    """Show what IMAGE holds: size, bands, pixel size, levels, and which reader decodes it.

    A terminal that has all colours shows it, too, if a coarse level can be read at once.
    """
    from tilseg.cli.thumbnail import show_thumbnail
    from tilseg.source import Source, open_source

    source: Source = open_source(image, **chosen)
    try:
        facts = _facts(source)
        if as_json:
            click.echo(json.dumps(facts, indent=1))
        else:
            _print(facts)
            show_thumbnail(source)
    finally:
        source.close()


def _print(facts: dict[str, Any]) -> None:
    from tilseg.cli.terminal import print_facts

    shown = {
        "image": facts["input"],
        "size": f"{facts['width']} x {facts['height']} px",
        "bands": f"{facts['bands']} of {facts['dtype']}",
        "pixel size": "not stated",
        "nodata": "none" if facts["nodata"] is None else facts["nodata"],
        "levels": ", ".join(f"{width} x {height}" for width, height in facts["levels"]),
        "reader": facts["reader"],
    }
    if any(facts["band_names"]):
        shown["bands"] += f": {', '.join(name or '-' for name in facts['band_names'])}"
    if facts["pixel_size"]:
        rows, cols = facts["pixel_size"]
        shown["pixel size"] = f"{cols:.6g} x {rows:.6g} {facts['unit']}"
    if facts["crs"]:
        shown["crs"] = _crs_name(facts["crs"])
    if facts["notes"]:
        shown["notes"] = "; ".join(facts["notes"])
    print_facts(shown)


def _facts(source: Any) -> dict[str, Any]:
    pixel = source.georef.pixel_size
    nodata = source.nodata
    return {
        "input": source.uri,
        "width": source.shape.cols,
        "height": source.shape.rows,
        "bands": source.bands,
        "dtype": str(source.dtype),
        "band_names": list(source.band_names),
        "pixel_size": [pixel.rows, pixel.cols] if pixel else None,
        "unit": pixel.unit if pixel else None,
        "crs": source.georef.crs,
        "transform": source.georef.transform,
        # JSON has no NaN.
        "nodata": "nan" if nodata is not None and math.isnan(nodata) else nodata,
        "levels": [[level.size.cols, level.size.rows] for level in source.levels],
        "reader": source.reader,
        "notes": list(source.notes),
    }


def _crs_name(wkt: str) -> str:
    """The name in front of a WKT: WGS 84 / UTM zone 33N."""
    return wkt.split('"', 2)[1] if wkt.count('"') >= 2 else wkt
