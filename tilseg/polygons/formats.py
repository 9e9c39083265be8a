"""The formats of polygons and their files; light, for most runs write none."""

from __future__ import annotations

import importlib.util

from tilseg.errors import UsageError
from tilseg.plan import RegionOptions
from tilseg.regions.names import PARQUET

GEOJSON = "regions.geojson"
# GDAL's names of what it writes.
OGR = {"gpkg": "GPKG", "fgb": "FlatGeobuf"}
# What `write_polygons` may leave in a folder.
NAMES = (GEOJSON, f"{GEOJSON}.gz", PARQUET, *(f"regions.{name}" for name in OGR))


def check_formats(options: RegionOptions | None) -> None:
    """Raises UsageError E-POLYGON-EXTRA where a format needs what is not installed."""
    for name in options.polygons if options else ():
        if name in OGR and importlib.util.find_spec("pyogrio") is None:
            raise UsageError("E-POLYGON-EXTRA", format=name)
