"""What the metadata of OME-Zarr 0.1 to 0.5 say of an image: axes, levels, scales, channels.

Only JSON: nothing here opens an array. Follows ngff.openmicroscopy.org.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tilseg.georef import Georef, PixelSize

# One unit of length in micrometres (the names that OME-Zarr takes from UDUNITS-2).
_MICRONS = {
    "angstrom": 1e-4,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "micron": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}

# OME-Zarr 0.1 and 0.2 have five axes and do not name them.
_FIRST_AXES = ("t", "c", "z", "y", "x")


@dataclass(frozen=True, slots=True)
class Dataset:
    """One level: the path of its array, and the scale of each axis."""

    path: str
    scale: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Multiscale:
    """One image: names of its axes, their units ("" for none), its levels, full size first."""

    axes: tuple[str, ...]
    units: tuple[str, ...]
    datasets: tuple[Dataset, ...]

    @property
    def pixel_size(self) -> PixelSize | None:
        """Size of a level-0 pixel in um; None where the axes have no unit of length."""
        sides = [
            self.along(axis, self.datasets[0]) * _MICRONS.get(self.units[self.axes.index(axis)], 0)
            for axis in "yx"
        ]
        return PixelSize(sides[0], sides[1], "um") if min(sides) > 0 else None

    def along(self, axis: str, dataset: Dataset) -> float:
        """Scale of a level along an axis."""
        return dataset.scale[self.axes.index(axis)]


def ome(attributes: dict[str, Any]) -> dict[str, Any]:
    """The OME part of a group's attributes: under "ome" since 0.5, bare before."""
    inner = attributes.get("ome", attributes)
    return inner if isinstance(inner, dict) else {}


def multiscales(attributes: dict[str, Any]) -> tuple[Multiscale, ...]:
    """The images of a group; empty where it holds none.

    Raises KeyError, TypeError, ValueError or AttributeError for metadata that make no sense.
    """
    return tuple(_multiscale(one) for one in ome(attributes).get("multiscales", ()))


def _multiscale(image: dict[str, Any]) -> Multiscale:
    axes = [a if isinstance(a, dict) else {"name": a} for a in image.get("axes", _FIRST_AXES)]
    names = tuple(str(axis["name"]) for axis in axes)
    if not {"y", "x"} <= set(names):
        raise ValueError(f"axes {names} without y and x")
    common = _scale(image, len(axes))
    found = []
    for level in image["datasets"]:
        scale = _scale(level, len(axes))
        found.append(
            Dataset(str(level["path"]), tuple(a * b for a, b in zip(scale, common, strict=True)))
        )
    if not found:
        raise ValueError("no datasets")
    return Multiscale(names, tuple(str(axis.get("unit", "")) for axis in axes), tuple(found))


def _scale(holder: dict[str, Any], count: int) -> tuple[float, ...]:
    """The product of all scale transformations; ones where there are none."""
    product = (1.0,) * count
    for transformation in holder.get("coordinateTransformations", ()):
        if transformation["type"] == "scale":
            factors = [float(factor) for factor in transformation["scale"]]
            product = tuple(a * b for a, b in zip(product, factors, strict=True))
    return product


def channel_names(attributes: dict[str, Any]) -> tuple[str, ...]:
    """Labels of the channels of OMERO's display settings, "" for one without; or empty."""
    channels: Sequence[dict[str, Any]] = ome(attributes).get("omero", {}).get("channels", ())
    return tuple(str(channel.get("label", "")) for channel in channels)


def tilseg_place(attributes: dict[str, Any]) -> tuple[Georef | None, float | None]:
    """Georeference and nodata that tilseg itself stores beside "ome"; None where it does not."""
    ours = attributes.get("tilseg")
    if not isinstance(ours, dict):
        return None, None
    place = ours["georef"]
    transform, pixel = place["transform"], place["pixel_size"]
    georef = Georef(
        place["crs"],
        None if transform is None else tuple(transform),
        None if pixel is None else PixelSize(**pixel),
    )
    return georef, ours.get("nodata")
