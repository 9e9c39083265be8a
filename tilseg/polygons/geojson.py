"""Regions as GeoJSON: of a map in longitude and latitude, of a picture as QuPath reads it.

RFC 7946: a FeatureCollection in WGS 84, longitudes first, shells anticlockwise, cut at the
antimeridian. It has no CRS and no pixels, so of a picture we write what QuPath makes objects of:
pixels of level 0 from its upper left corner, `objectType`, `classification` with its colour and
`measurements` (qupath.lib.io.QuPathTypeAdapters).
"""

from __future__ import annotations

import gzip
import json
import math
import uuid
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import shapely

from tilseg.durable import writing
from tilseg.polygons.shapes import Shapes, check_same

# QuPath reads .geojson.gz as it is; GIS programs don't.
_MANY = 100_000
_OPEN, _CLOSE = '{"type":"FeatureCollection","features":[\n', "\n]}\n"


def write_geojson(shapes: Shapes, path: Path) -> None:
    """Write a feature a line in order of the table, and read the file back.

    For QuPath, 100,000 regions and more are compressed, in `path` with .gz after its name.
    Raises OutputError E-OUTPUT-WRITE, E-OUTPUT-READBACK or E-POLYGON-DEGREES.
    """
    packed = not shapes.place.is_geographic and len(shapes.regions) >= _MANY
    path = path.with_name(f"{path.name}.gz") if packed else path
    features = _map_features if shapes.place.is_geographic else _qupath_features
    written = 0
    with writing(path), path.open("wb") as raw, _packing(raw, packed) as file:
        separator = _OPEN
        for lines in features(shapes):
            content = (separator + ",\n".join(lines)).encode()
            separator = ",\n"
            file.write(content)
            written = zlib.crc32(content, written)
        content = (_CLOSE if separator != _OPEN else _OPEN + _CLOSE).encode()
        file.write(content)
        written = zlib.crc32(content, written)
    check_same(path, written, _crc(path, packed))


def _packing(raw: BinaryIO, packed: bool) -> Any:
    # No name and no time in the header: the same regions are the same bytes.
    return gzip.GzipFile("", "wb", 6, raw, mtime=0) if packed else nullcontext(raw)


def _crc(path: Path, packed: bool) -> int:
    crc = 0
    with writing(path), gzip.open(path) if packed else path.open("rb") as file:
        while content := file.read(2**20):
            crc = zlib.crc32(content, crc)
    return crc


def _map_features(shapes: Shapes) -> Iterator[list[str]]:
    for rows, polygons in shapes.batches(np.arange(len(shapes.regions))):
        columns = {name: v.to_pylist() for name, v in shapes.columns(rows).items()}
        geometries = shapely.to_geojson(shapes.place.in_degrees(polygons))
        yield [
            f'{{"type":"Feature","id":{columns["label"][row]},"geometry":{geometry},'
            f'"properties":{{{properties}}}}}'
            for row, (geometry, properties) in enumerate(
                zip(geometries, _members(columns), strict=True)
            )
        ]


def _qupath_features(shapes: Shapes) -> Iterator[list[str]]:
    kinds = {}
    for value in np.unique(shapes.regions.columns["class"]).tolist():
        kind: dict[str, Any] = {"name": shapes.class_name(value)}
        if value < len(shapes.classes):
            kind["color"] = list(bytes.fromhex(shapes.classes[value].color[1:]))
        kinds[value] = _json(kind)
    space = uuid.uuid5(uuid.NAMESPACE_URL, shapes.key)
    for rows, polygons in shapes.batches(np.arange(len(shapes.regions))):
        columns = {n: v.to_pylist() for n, v in shapes.columns(rows).items() if n != "class_name"}
        geometries = shapely.to_geojson(shapes.place.in_image(polygons))
        # Measurements are numbers: whether it touches the edge is 1 or 0.
        columns["touches_edge"] = [int(value) for value in columns["touches_edge"]]
        yield [
            f'{{"type":"Feature","id":"{uuid.uuid5(space, str(label))}","geometry":{geometry},'
            f'"properties":{{"objectType":"detection","name":"{label}",'
            f'"classification":{kinds[value]},"measurements":{{{measurements}}}}}}}'
            for label, value, geometry, measurements in zip(
                columns["label"], columns["class"], geometries, _members(columns), strict=True
            )
        ]


def _members(columns: dict[str, list[Any]]) -> Iterator[str]:
    """The members of a JSON object for each row; without what is not a number, as JSON has none."""
    cells = [
        [
            None if isinstance(v, float) and not math.isfinite(v) else f"{head}{_json(v)}"
            for v in values
        ]
        for head, values in ((f"{_json(name)}:", values) for name, values in columns.items())
    ]
    return (",".join(filter(None, row)) for row in zip(*cells, strict=True))


def _json(value: Any) -> str:
    if isinstance(value, bool | str | dict):
        return json.dumps(value, separators=(",", ":"))
    return repr(value)
