"""What QuPath wants of a GeoJSON file to make objects of it, as rules that can fail.

After qupath-core's QuPathTypeAdapters and ROITypeAdapters, and GeometryTools, which rounds
coordinates to hundredths of a pixel and takes no geometry that is not valid then.
"""

from __future__ import annotations

import json
import math
import uuid
from typing import Any

import numpy as np
import shapely

_OBJECTS = {"annotation", "detection", "cell", "tile", "tmaCore"}


def check_import(text: str, width: int, height: int) -> list[dict[str, Any]]:
    """The features of a file that QuPath imports onto an image of that size."""
    content = json.loads(text, parse_constant=_no_number)
    assert content["type"] == "FeatureCollection"
    features: list[dict[str, Any]] = content["features"]
    for feature in features:
        assert feature["type"] == "Feature"
        assert str(uuid.UUID(feature["id"])) == feature["id"]
        _check_geometry(feature["geometry"], width, height)
        _check_properties(feature["properties"])
    assert len({feature["id"] for feature in features}) == len(features)
    return features


def _no_number(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def _check_geometry(geometry: dict[str, Any], width: int, height: int) -> None:
    # A GeometryCollection has no coordinates, for which the parser asks.
    assert geometry["type"] in ("Polygon", "MultiPolygon")
    pieces = geometry["coordinates"]
    for rings in [pieces] if geometry["type"] == "Polygon" else pieces:
        for ring in rings:
            assert len(ring) >= 4
            assert ring[0] == ring[-1]
    shape = shapely.from_geojson(json.dumps(geometry))
    assert shapely.get_coordinate_dimension(shape) == 2
    left, top, right, bottom = shapely.bounds(shape)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    read = shapely.transform(shape, lambda xy: np.round(xy, 2))
    assert shapely.is_valid(read), shapely.is_valid_reason(read)
    assert read.area == shape.area > 0


def _check_properties(properties: dict[str, Any]) -> None:
    assert properties["objectType"] in _OBJECTS
    classification = properties["classification"]
    assert isinstance(classification["name"], str)
    if "color" in classification:
        assert len(classification["color"]) == 3
        assert all(type(level) is int and 0 <= level <= 255 for level in classification["color"])
    for name, value in properties["measurements"].items():
        assert isinstance(name, str)
        assert type(value) in (int, float)
        assert math.isfinite(value)
