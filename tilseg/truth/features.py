"""Vector truth: polygons with classes, from GeoJSON, COCO and what pyogrio reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.truth import coco
from tilseg.truth.class_map import IGNORED
from tilseg.truth.legend import Legend
from tilseg.window import Size

# RFC 7946, section 4: longitude and latitude, in this order, on WGS 84.
_LON_LAT = "OGC:CRS84"
_POLYGONS = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


@dataclass(frozen=True, slots=True)
class Features:
    """Polygons in the order in which they are painted, later ones over earlier ones.

    polygons: (n,) shapely polygons and multipolygons. classes: (n,) uint16, IGNORED for those
    that hide what is below them.
    crs: what their coordinates are in; None for pixels, columns before rows, from the image's
    corner. shape: of the image they were drawn on, where the file says so.
    names: of classes, where the file has them.
    """

    path: str
    polygons: NDArray[Any]
    classes: NDArray[np.uint16]
    crs: str | None
    shape: Size | None
    names: dict[int, str]


def is_vector(path: Path) -> bool:
    """Whether `read_features` is for this file, by the end of its name."""
    return path.suffix.lower() in {".json", ".geojson", *_OGR}


_OGR = (".gpkg", ".shp", ".fgb", ".gml", ".kml")


def read_features(path: Path, legend: Legend | None, *, image: str, on_map: bool) -> Features:
    """The polygons of a file.

    The class of a polygon is, of GeoJSON and other tables, its whole-number property `class`,
    or 1 where no feature has one; of COCO, its category's id. With a legend it is what the
    legend says of the property that it names, or of the category's name. QuPath's property
    `classification` is taken where there is no `class`, and says what its `name` does.

    image: name of the image or prediction, which tells the images of a COCO file apart. on_map:
    whether that has a CRS; without one, coordinates are pixels.

    Raises InputError E-INPUT-MISSING, E-TRUTH-VECTOR, E-TRUTH-EXTRA, E-LEGEND-UNKNOWN,
    E-CLASSES-NEGATIVE.
    """
    if not path.is_file():
        raise InputError("E-INPUT-MISSING", path=path)
    if path.suffix.lower() in _OGR:
        return _from_ogr(path, legend, on_map)
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _refuse(path, f"is not JSON ({error})") from None
    try:
        if isinstance(content, dict) and "annotations" in content:
            return _from_coco(path, content, legend, image)
        if isinstance(content, dict) and content.get("type") == "FeatureCollection":
            return _from_geojson(path, content, legend, on_map)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise _refuse(path, f"is damaged ({type(error).__name__} {error})") from None
    raise _refuse(path, "is JSON of another kind")


def _from_geojson(
    path: Path, content: dict[str, Any], legend: Legend | None, on_map: bool
) -> Features:
    features = [f for f in content["features"] if f.get("geometry") is not None]
    try:
        polygons = shapely.from_geojson([json.dumps(f["geometry"]) for f in features])
    except shapely.errors.GEOSException as error:
        raise _refuse(path, f"holds a bad geometry ({error})") from None
    keys = _keys([f.get("properties") or {} for f in features], legend)
    # RFC 7946 knows no CRS; the drafts before it, and GDAL, have this member.
    named = (content.get("crs") or {}).get("properties", {}).get("name")
    if named and not on_map:
        raise _no_map(path, named)
    crs = (named or _LON_LAT) if on_map else None
    return _features(path, polygons, keys, legend, crs)


def _keys(rows: Sequence[dict[str, Any]], legend: Legend | None) -> list[Any]:
    """What tells the class of each feature, from its properties."""
    if legend is not None and legend.attribute:
        return [_word(row.get(legend.attribute)) for row in rows]
    for name in ("class", "classification"):
        if any(name in row for row in rows):
            return [_word(row.get(name)) for row in rows]
    return [1] * len(rows)


def _word(value: Any) -> Any:
    return value["name"] if isinstance(value, dict) else value


def _from_coco(path: Path, content: dict[str, Any], legend: Legend | None, image: str) -> Features:
    drawn = coco.drawing(content, image)
    if legend is None and 0 in drawn.names:
        name = drawn.names[0]
        raise _refuse(path, f"has a category 0 ({name}), and 0 is the background: add --legend")
    keys = drawn.categories if legend is None else [drawn.names[k] for k in drawn.categories]
    return _features(path, drawn.polygons, keys, legend, None, drawn.shape, drawn.names)


def _from_ogr(path: Path, legend: Legend | None, on_map: bool) -> Features:
    try:
        from pyogrio.errors import DataSourceError
        from pyogrio.raw import read
    except ImportError:
        raise InputError("E-TRUTH-EXTRA", path=path) from None
    try:
        meta, _, geometry, columns = read(path)
    except DataSourceError as error:
        raise _refuse(path, f"can't be read ({error})") from None
    there = np.array([one is not None for one in geometry], bool)
    columns = [column[there].tolist() for column in columns]
    rows = [dict(zip(meta["fields"], row, strict=True)) for row in zip(*columns, strict=True)] or [
        {}
    ] * int(there.sum())
    polygons = shapely.from_wkb(geometry[there])
    if meta["crs"] and not on_map:
        raise _no_map(path, meta["crs"])
    return _features(path, polygons, _keys(rows, legend), legend, meta["crs"])


def _features(
    path: Path,
    polygons: Any,
    keys: Iterable[Any],
    legend: Legend | None,
    crs: str | None,
    shape: Size | None = None,
    names: dict[int, str] | None = None,
) -> Features:
    polygons = np.asarray(polygons, dtype=object)
    kinds = shapely.get_type_id(polygons) if len(polygons) else np.zeros(0, int)
    for kind in np.setdiff1d(kinds, _POLYGONS):
        raise _refuse(path, f"holds a {shapely.GeometryType(kind).name.lower()}, not only polygons")
    classes = [_class_of(path, key, legend) for key in keys]
    own = dict(names or {}) if legend is None else legend.names
    return Features(
        str(path), shapely.force_2d(polygons), np.array(classes, np.uint16), crs, shape, own
    )


def _class_of(path: Path, key: Any, legend: Legend | None) -> int:
    if legend is not None:
        if isinstance(key, float) and key.is_integer():
            key = int(key)
        if key not in legend.class_of:
            raise InputError("E-LEGEND-UNKNOWN", path=path, found=repr(key), legend=legend.path)
        return legend.class_of[key]
    if isinstance(key, bool) or not isinstance(key, int | float) or key != int(key):
        raise _refuse(path, f"has a feature of the class {key!r}: name classes with --legend")
    if not 0 <= key < IGNORED:
        raise InputError("E-CLASSES-NEGATIVE", path=path, value=int(key))
    return int(key)


def _no_map(path: Path, crs: str) -> InputError:
    reason = f"its CRS is {crs}, and the image has none"
    return InputError("E-CLASSES-ALIGN", path=path, reason=reason)


def _refuse(path: Path, reason: str) -> InputError:
    return InputError("E-TRUTH-VECTOR", path=path, reason=reason)
