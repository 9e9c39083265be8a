"""The regions of a mask as files of polygons in a result."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tilseg.card import ClassInfo
from tilseg.plan import RegionOptions
from tilseg.polygons.arrow_files import write_geoparquet, write_ogr
from tilseg.polygons.formats import GEOJSON, OGR
from tilseg.polygons.geojson import write_geojson
from tilseg.polygons.outlines import Outlines
from tilseg.polygons.placing import Place
from tilseg.polygons.shapes import Shapes
from tilseg.regions import RegionTable
from tilseg.regions.names import PARQUET
from tilseg.window import Window

_IDENTITY = ("label", "class", "area", "bbox-0", "bbox-1", "bbox-2", "bbox-3")


def write_polygons(
    regions: RegionTable,
    blocks: Iterable[tuple[Window, NDArray[Any]]],
    options: RegionOptions,
    place: Place,
    classes: Sequence[ClassInfo],
    folder: Path,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Write the polygons of all regions in each format of `options` in `folder`, and read them back.

    regions.geojson (.gz), regions.parquet in place of the table, regions.gpkg, regions.fgb: the
    same bytes for the same regions. Each has a polygon, or a multipolygon of its pieces, for
    each region, with its number and all its columns.
    blocks: of the whole mask in raster order, each with the number of every pixel's region.
    classes: names and colours by value, () where not known. progress: called with (pixels done,
    pixels), where each format counts for as much as tracing.

    Raises OutputError E-OUTPUT-WRITE, E-OUTPUT-READBACK and E-POLYGON-DEGREES.
    """
    area = regions.grid.shape.area
    steps = ["trace", *(["simplify"] if options.simplify else []), *options.polygons]
    step = 0

    def report(share: float) -> None:
        progress(int(area * (step + share)), area * len(steps))

    def traced() -> Iterator[tuple[Window, NDArray[Any]]]:
        done = 0
        for window, values in blocks:
            yield window, values
            done += window.size.area
            report(done / area)

    # Beside the result, for nothing of it may be published.
    with Outlines(regions.grid.shape, folder.parent) as outlines:
        outlines.trace(traced(), len(regions))
        shapes = Shapes(regions, outlines, place, tuple(classes), _key(regions), report)
        for name in steps[1:]:
            step += 1
            if name == "simplify":
                shapes = shapes.simplify(options.simplify)
            elif name == "geojson":
                write_geojson(shapes, folder / GEOJSON)
            elif name == "geoparquet":
                write_geoparquet(shapes, folder / PARQUET)
            else:
                write_ogr(shapes, folder / f"regions.{name}", OGR[name])


def _key(regions: RegionTable) -> str:
    """What tells these regions from all others, whatever the blocks they were measured in."""
    digest = hashlib.sha256(repr(tuple(regions.grid.shape)).encode())
    for name in _IDENTITY:
        digest.update(regions.columns[name].tobytes())
    return digest.hexdigest()
