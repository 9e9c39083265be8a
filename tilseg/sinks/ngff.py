"""The metadata of a label image after OME-Zarr 0.5 (ngff.openmicroscopy.org/0.5).

Only JSON: nothing here opens a file. Beside "ome" stands "tilseg", with what OME-Zarr has no
place for: the CRS and transform, the classes with their colours, background and nodata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tilseg.card import ClassInfo
from tilseg.georef import Factors, Georef, PixelSize


@dataclass(frozen=True, slots=True)
class MaskInfo:
    """What is known of a mask beside its pixels; see `tilseg.sink.Mask`."""

    name: str
    classes: tuple[ClassInfo, ...]
    background: int | None
    georef: Georef
    provenance: Mapping[str, str]


def group_json(info: MaskInfo, levels: int, nodata: int) -> bytes:
    """Content of the `zarr.json` of the image's group."""
    attributes = {
        "ome": {
            "version": "0.5",
            "multiscales": [_multiscale(info.name, info.georef, levels)],
            "image-label": _image_label(info, nodata),
        },
        "tilseg": {
            "nodata": nodata,
            "background": info.background,
            "classes": [c.model_dump() for c in info.classes],
            "georef": asdict(info.georef),
            "provenance": dict(info.provenance),
        },
    }
    return _group(attributes)


def _group(attributes: dict[str, Any]) -> bytes:
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return json.dumps(group, indent=2, allow_nan=False).encode()


def parse_group_json(content: bytes) -> MaskInfo:
    """The reverse of `group_json`; raises ValueError, KeyError or TypeError where it is not one."""
    attributes = json.loads(content)["attributes"]
    ours = attributes["tilseg"]
    place = ours["georef"]
    transform, pixel = place["transform"], place["pixel_size"]
    return MaskInfo(
        name=attributes["ome"]["multiscales"][0]["name"],
        classes=tuple(ClassInfo(**c) for c in ours["classes"]),
        background=ours.get("background"),
        georef=Georef(
            crs=place["crs"],
            transform=None if transform is None else tuple(transform),
            pixel_size=None if pixel is None else PixelSize(**pixel),
            factors=Factors(*place["factors"]),
        ),
        provenance=ours.get("provenance", {}),
    )


def micrometres(georef: Georef) -> PixelSize | None:
    """The pixel size, if it is a physical one as microscopy formats have it."""
    pixel = georef.pixel_size
    return pixel if pixel is not None and pixel.unit == "um" else None


def rgb(color: str) -> tuple[int, int, int]:
    """Red, green and blue (0-255) of "#rrggbb"."""
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


def probabilities_json(info: MaskInfo, levels: int) -> bytes:
    """Content of the `zarr.json` of the group of class probabilities: one channel a class."""
    multiscale = _multiscale(info.name, info.georef, levels)
    multiscale["axes"].insert(0, {"name": "c", "type": "channel"})
    for dataset in multiscale["datasets"]:
        scale, translation = dataset["coordinateTransformations"]
        scale["scale"].insert(0, 1.0)
        translation["translation"].insert(0, 0.0)
    channels = [
        {
            "label": c.name,
            "color": c.color.removeprefix("#").upper(),
            "active": True,
            "window": {"min": 0, "max": 255, "start": 0, "end": 255},
        }
        for c in info.classes
    ]
    attributes = {
        "ome": {"version": "0.5", "multiscales": [multiscale], "omero": {"channels": channels}},
        "tilseg": {
            "scale": 1 / 255,
            "classes": [c.model_dump() for c in info.classes],
            "georef": asdict(info.georef),
            "provenance": dict(info.provenance),
        },
    }
    return _group(attributes)


def labels_json(name: str, georef: Georef, levels: int) -> bytes:
    """Content of the `zarr.json` of the group of region numbers; viewers choose the colours."""
    ome = {
        "version": "0.5",
        "multiscales": [_multiscale(name, georef, levels)],
        "image-label": {"version": "0.5"},
    }
    return _group({"ome": ome, "tilseg": {"georef": asdict(georef)}})


def _multiscale(name: str, georef: Georef, levels: int) -> dict[str, Any]:
    pixel = micrometres(georef)
    unit = {} if pixel is None else {"unit": "micrometer"}
    # Without a length in micrometres the unit is the pixel of the image under it.
    rows, cols = georef.factors if pixel is None else (pixel.rows, pixel.cols)
    own = rows / georef.factors.rows, cols / georef.factors.cols
    return {
        "name": name,
        "type": "nearest",
        "axes": [{"name": axis, "type": "space", **unit} for axis in "yx"],
        "datasets": [
            {
                "path": str(level),
                "coordinateTransformations": _transforms(rows * 2**level, cols * 2**level, own),
            }
            for level in range(levels)
        ],
    }


def _transforms(rows: float, cols: float, image: tuple[float, float]) -> list[dict[str, Any]]:
    # A position is a pixel's centre, so a coarser grid that covers the same area starts half
    # the difference of the two pixels further in. ome-zarr-py and most images do the same.
    return [
        {"type": "scale", "scale": [rows, cols]},
        {
            "type": "translation",
            "translation": [(rows - image[0]) / 2, (cols - image[1]) / 2],
        },
    ]


def _image_label(info: MaskInfo, nodata: int) -> dict[str, Any]:
    """Colours and names; background and nodata are see-through, to lie over an image."""
    names: Sequence[tuple[int, str]] = [(v, c.name) for v, c in enumerate(info.classes)]
    colors = [
        {"label-value": value, "rgba": [*rgb(c.color), 0 if value == info.background else 255]}
        for value, c in enumerate(info.classes)
    ]
    return {
        "version": "0.5",
        "colors": [*colors, {"label-value": nodata, "rgba": [0, 0, 0, 0]}],
        "properties": [
            {"label-value": value, "name": name} for value, name in [*names, (nodata, "no data")]
        ],
    }
