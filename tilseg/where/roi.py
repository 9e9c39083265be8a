"""Regions of interest from GeoJSON, on the pixels of an image.

RFC 7946, and what QuPath and GDAL write beside it. What the coordinates are the file says itself:
a `crs` member names their CRS (GDAL, and GeoJSON before RFC 7946); QuPath's objects are in pixels
of level 0; anything else is longitude and latitude on an image that lies on a map, and pixels of
level 0 on one that does not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.georef import Georef
from tilseg.selection import Roi
from tilseg.source import Source
from tilseg.vector.projection import on_pixels
from tilseg.window import Size

# RFC 7946, section 4: longitude and latitude, in this order, on WGS 84.
_LON_LAT = "OGC:CRS84"
# A straight edge in one CRS is a curve in another: long ones are brought over in pieces of this
# part of their polygon, which leaves a ten-thousandth of the bend.
_PIECES = 100
# The plan holds them, and goes to every worker with every block.
_MAX_VERTICES = 200_000


def read_roi(path: str | os.PathLike[str], source: Source, level: int = 0) -> Roi:
    """The polygons of a GeoJSON file on the pixels of one level of `source`, resampled or not.

    Raises InputError E-INPUT-MISSING, E-ROI for a file without usable polygons or in another CRS
    than the image can tell, E-ROI-OUTSIDE where none touches the image.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("E-INPUT-MISSING", path=path)
    content = _content(path)
    polygons = _polygons(path, content)
    at = source.levels[level]
    grid = source.georef.decimated(at.row_factor, at.col_factor)
    crs = _crs(path, content, grid)
    polygons = _on_level_0(polygons, grid) if crs is None else _on_map(path, polygons, crs, grid)
    # Twisted outlines are pulled straight, with what is left of them besides areas dropped.
    polygons = shapely.get_parts(shapely.get_parts(shapely.make_valid(polygons)))
    polygons = polygons[shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON]
    _check_inside(path, polygons, at.size)
    return Roi.of(shapely.to_wkb(shapely.geometrycollections(polygons)), str(path.absolute()))


def _content(path: Path) -> list[Any] | dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError("E-INPUT-READ", path=path, reason=error.strerror) from None
    except (ValueError, RecursionError) as error:
        raise _refuse(path, f"is not JSON ({error})") from None
    if not isinstance(content, list | dict):
        raise _refuse(path, "is JSON of another kind")
    return content


def _polygons(path: Path, content: Any) -> NDArray[Any]:
    """Valid polygons and multipolygons of all features, (n,), as the file has them."""
    try:
        found = shapely.from_geojson([json.dumps(one) for one in _geometries(content)])
        found = shapely.force_2d(np.asarray(found, dtype=object))
    except shapely.errors.GEOSException as error:
        raise _refuse(path, f"holds a bad geometry ({error})") from None
    except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
        raise _refuse(path, f"is damaged ({type(error).__name__} {error})") from None
    for kind in np.unique(shapely.get_type_id(found)):
        if kind not in (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON):
            name = shapely.GeometryType(kind).name.lower()
            raise _refuse(path, f"holds a {name}, not only polygons")
    if not np.isfinite(shapely.get_coordinates(found)).all():
        raise _refuse(path, "has coordinates that are not numbers")
    vertices = int(shapely.get_num_coordinates(found).sum())
    if vertices > _MAX_VERTICES:
        reason = f"has {vertices:,} vertices, and up to {_MAX_VERTICES:,} are taken: simplify it"
        raise _refuse(path, reason)
    there = np.asarray(found[~shapely.is_empty(found)])
    if not len(there):
        raise _refuse(path, "holds no polygon")
    return there


def _geometries(content: Any) -> Iterator[Any]:
    """The geometries of a collection, a feature, a geometry or QuPath's list of features."""
    if isinstance(content, list):
        for each in content:
            yield from _geometries(each)
    elif content["type"] == "FeatureCollection":
        yield from _geometries(content["features"])
    elif content["type"] == "GeometryCollection":
        yield from _geometries(content["geometries"])
    elif content["type"] != "Feature":
        yield content
    elif content["geometry"] is not None:
        yield from _geometries(content["geometry"])


def _crs(path: Path, content: Any, grid: Georef) -> str | None:
    """What the coordinates are in; None for pixels of level 0."""
    named = content.get("crs") if isinstance(content, dict) else None
    if named is not None:
        try:
            name = str(named["properties"]["name"])
        except (KeyError, TypeError):
            raise _refuse(path, "has a crs member that names no CRS") from None
        if grid.crs is None:
            raise _refuse(path, f"is in {name}, and the image has no CRS")
        return name
    if grid.crs is None or _is_qupath(content):
        return None
    return _LON_LAT


def _is_qupath(content: Any) -> bool:
    """Whether the features are objects of QuPath, which says of each of what type it is."""
    features = content if isinstance(content, list) else content.get("features", [content])
    return any("objectType" in (feature.get("properties") or {}) for feature in features)


def _on_level_0(polygons: NDArray[Any], grid: Georef) -> NDArray[Any]:
    factors = np.array([grid.factors.cols, grid.factors.rows])
    return np.asarray(shapely.transform(polygons, lambda points: points / factors))


def _on_map(path: Path, polygons: NDArray[Any], crs: str, grid: Georef) -> NDArray[Any]:
    if crs == _LON_LAT and not (np.abs(shapely.total_bounds(polygons)) <= 360).all():
        reason = "has coordinates that are no longitude and latitude, and names no other CRS"
        raise _refuse(path, reason)
    try:
        return on_pixels(polygons, crs, grid, pieces=_PIECES)
    except ValueError as error:
        raise _refuse(path, str(error)) from None


def _check_inside(path: Path, polygons: NDArray[Any], shape: Size) -> None:
    if not shapely.intersects(polygons, shapely.box(0, 0, shape.cols, shape.rows)).any():
        left, top, right, bottom = shapely.total_bounds(polygons)
        raise InputError(
            "E-ROI-OUTSIDE",
            path=path,
            place=f"cols {left:.0f} to {right:.0f}, rows {top:.0f} to {bottom:.0f}",
            image=f"{shape.cols} x {shape.rows}",
        )


def _refuse(path: Path, reason: str) -> InputError:
    return InputError("E-ROI", path=path, reason=reason)
