"""A result on a map as a STAC item, so that catalogues and their readers find and open it.

STAC 1.1 (github.com/radiantearth/stac-spec) with the extensions named in `_EXTENSIONS`. Plain JSON:
nothing here opens a file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import shapely

from tilseg.card import ClassInfo
from tilseg.errors import OutputError
from tilseg.georef import Georef
from tilseg.polygons.placing import Place
from tilseg.sink import Mask
from tilseg.vector.projection import crs_name, wkt2

NAME = "stac.json"
_EXTENSIONS = tuple(
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("classification/v2.0.0", "processing/v1.2.0", "projection/v2.0.0", "raster/v1.1.0")
)
_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_ZARR = "application/vnd.zarr; version=3"
_GEOJSON = "application/geo+json"
# Of the files that a result may hold: media type, title, role.
_FILES = {
    "mask.tif": (_COG, "Mask", "data"),
    "mask.zarr": (_ZARR, "Mask for code and napari", "data"),
    "mask.qml": ("application/xml", "Style of the mask for QGIS", "style"),
    "probabilities.tif": (_COG, "Probability of each class", "data"),
    "probabilities.zarr": (_ZARR, "Probability of each class, for code", "data"),
    "labels.zarr": (_ZARR, "Number of the region of each pixel", "data"),
    "regions.parquet": ("application/vnd.apache.parquet", "Regions", "data"),
    "regions.csv": ("text/csv", "Regions as text", "data"),
    "regions.geojson": (_GEOJSON, "Outlines of regions", "data"),
    "regions.geojson.gz": ("application/gzip", "Outlines of regions, compressed", "data"),
    "regions.gpkg": ("application/geopackage+sqlite3", "Outlines of regions", "data"),
    "regions.fgb": ("application/vnd.flatgeobuf", "Outlines of regions", "data"),
    "summary.json": ("application/json", "Figures", "metadata"),
    "run.json": ("application/json", "Receipt", "metadata"),
    "report.html": ("text/html", "Report", "overview"),
}
# The item must lie in time. Where its image doesn't say when: at any.
_ANY_TIME = {"start_datetime": "0001-01-01T00:00:00Z", "end_datetime": "9999-12-31T23:59:59Z"}
_TOLERANCE = 1e-4  # of its extent: how far the outline in degrees may be off


def stac_item(
    mask: Mask, exported: Mask, recorded: str | None, names: Collection[str]
) -> dict[str, Any] | None:
    """The item of a result; None for one that has no CRS.

    mask: in the pixels that were segmented; exported: in those of mask.tif. recorded: when the
    image was made, as its file says. names: of the files of the result, which the item's assets
    name by themselves. Nothing of it tells when or where the result was made.
    """
    georef = exported.georef
    if not Place(georef, exported.shape).is_geographic:
        return None
    made = mask.provenance
    outline = _outline(Place(georef, exported.shape))
    software, _, number = made["software"].partition(" ")
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(_EXTENSIONS),
        "id": f"{_word(mask.name)}-{_word(made['model'])}",
        "geometry": None if outline is None else shapely.geometry.mapping(outline),
        **({} if outline is None else {"bbox": _box(outline)}),
        "properties": {
            "datetime": recorded,
            **({} if recorded else _ANY_TIME),
            "title": f"{mask.name}: {', '.join(info.name for info in mask.classes)}",
            **_crs(georef),
            "proj:bbox": _bounds(exported),
            "processing:software": {software: number},
            "processing:lineage": f"{made['source']}, segmented by the model {made['model']}",
            "tilseg:model_sha256": made["model_sha256"],
            "tilseg:tile": made["tile"],
            "tilseg:halo": int(made["halo"]),
            "tilseg:stride": int(made["stride"]),
        },
        "links": [],
        "assets": {
            name: _asset(name, exported if name == "mask.tif" else mask)
            for name in _FILES
            if name in names
        },
    }


def _asset(name: str, mask: Mask) -> dict[str, Any]:
    media, title, role = _FILES[name]
    asset: dict[str, Any] = {"href": f"./{name}", "type": media, "title": title, "roles": [role]}
    stem, _, suffix = name.partition(".")
    if suffix not in ("tif", "zarr"):
        return asset
    asset |= {
        "proj:shape": list(mask.shape),
        "proj:transform": list(mask.georef.affine)[:6],
    }
    if stem == "mask":
        band = {"data_type": mask.dtype.name, "nodata": mask.nodata, "sampling": "area"}
        return asset | {"raster:bands": [band], "classification:classes": _classes(mask)}
    if stem == "probabilities":
        band = {"data_type": "uint8", "scale": 1 / 255, "sampling": "area"}
        words = _words(mask.classes)
        bands = [
            {"name": word, "description": info.name}
            for word, info in zip(words, mask.classes, strict=True)
        ]
        return asset | {"bands": bands, "raster:bands": [band] * len(bands)}
    return asset | {"raster:bands": [{"data_type": "uint32", "nodata": 0, "sampling": "area"}]}


def _classes(mask: Mask) -> list[dict[str, Any]]:
    named = [
        {"value": value, "name": word, "title": info.name, "color_hint": info.color[1:].upper()}
        for value, (word, info) in enumerate(zip(_words(mask.classes), mask.classes, strict=True))
    ]
    return [*named, {"value": mask.nodata, "name": "nodata", "title": "no data", "nodata": True}]


def _words(classes: Sequence[ClassInfo]) -> list[str]:
    """Names of classes for machines: no two are the same."""
    words = [_word(info.name) for info in classes]
    return [
        word if word and words.count(word) == 1 else f"{word or 'class'}_{value}"
        for value, word in enumerate(words)
    ]


def _word(name: str) -> str:
    """Letters, digits, - and _, which is all that identifiers of STAC may hold."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^0-9A-Za-z_-]+", "_", plain).strip("_")


def _crs(georef: Georef) -> dict[str, str | None]:
    crs = str(georef.crs)
    name = crs_name(crs)
    known = name.startswith("EPSG:")
    return {"proj:code": name} if known else {"proj:code": None, "proj:wkt2": wkt2(crs)}


def _bounds(mask: Mask) -> list[float]:
    """The least box in the CRS."""
    box = shapely.box(0, 0, mask.shape.cols, mask.shape.rows)
    return list(Place(mask.georef, mask.shape).on_grid(np.array([box]))[0].bounds)


def _outline(place: Place) -> Any:
    """The image's outline in longitude and latitude; None where parts of it have neither."""
    box = shapely.box(0, 0, place.shape.cols, place.shape.rows)
    try:
        with np.errstate(invalid="ignore"):
            outline = place.in_degrees(np.array([box]))[0]
    except OutputError:
        # A full disk seen from a satellite has corners beside the earth.
        return None
    west, south, east, north = outline.bounds
    return shapely.simplify(outline, _TOLERANCE * max(east - west, north - south))


def _box(outline: Any) -> list[float]:
    """West, south, east, north; west is the larger over the antimeridian: RFC 7946, section 5.2."""
    west, south, east, north = outline.bounds
    parts = shapely.bounds(shapely.get_parts(outline))
    ends = parts[:, 2] == 180
    begins = parts[:, 0] == -180
    if (ends & ~begins).any() and (begins & ~ends).any():
        west, east = float(parts[~begins, 0].min()), float(parts[~ends, 2].max())
    return [west, south, east, north]
