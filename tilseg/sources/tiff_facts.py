"""What the metadata of microscope TIFFs say: pixel size and names of channels."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from tilseg.georef import PixelSize

# One unit in micrometres.
_MICRONS = {
    "nm": 1e-3,
    "um": 1.0,
    "µm": 1.0,
    "\u03bcm": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "inch": 25_400.0,
}
_INCH, _CENTIMETRE = 2, 3

# Resolution tags coarser than this say how large to print (600 dpi is 42 um), not how large
# the thing in the picture is.
_COARSEST_TAG = 25.0


def pixel_size(tif: Any, series: Any) -> PixelSize | None:
    """Size of a level-0 pixel in um, or None where the file does not state it.

    From OME-XML, Aperio's description, ImageJ's description with its resolution tags, or the
    resolution tags alone. Never from the power of the objective.
    """
    if tif.is_ome:
        return _of_ome(_ome_pixels(tif, series))
    description = series.keyframe.description or ""
    if series.kind == "svs":
        found = re.search(r"\|\s*MPP\s*=\s*([0-9.]+)", description)
        return _microns(float(found[1]), float(found[1])) if found else None
    tags = series.keyframe.tags
    pixels = [_pixel_length(tags.valueof(number)) for number in (283, 282)]
    if tif.is_imagej:
        scale = _MICRONS.get(
            str((tif.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "µ")
        )
        return _microns(*(pixel * scale for pixel in pixels)) if scale else None
    scale = {_INCH: 25_400.0, _CENTIMETRE: 1e4}.get(tags.valueof(296), 0.0)
    rows, cols = (pixel * scale for pixel in pixels)
    return _microns(rows, cols) if max(rows, cols) <= _COARSEST_TAG else None


def band_names(tif: Any, series: Any, bands: int, channel: int | None) -> tuple[str, ...]:
    """Channel names of OME-XML, one a band; "" where there are none.

    channel: the one that is read, None for all.
    """
    pixels = _ome_pixels(tif, series) if tif.is_ome else None
    found = [] if pixels is None else pixels.findall("{*}Channel")
    names = tuple(one.get("Name", "") for one in found)
    if channel is not None:
        names = names[channel : channel + 1]
    return names if len(names) == bands else ("",) * bands


def _ome_pixels(tif: Any, series: Any) -> ElementTree.Element | None:
    """The Pixels element of a series: tifffile lists them in the order of the XML."""
    root = ElementTree.fromstring(tif.ome_metadata)
    found = root.findall("{*}Image/{*}Pixels")
    index = [one.keyframe for one in tif.series].index(series.keyframe)
    return found[index] if index < len(found) else None


def _of_ome(pixels: ElementTree.Element | None) -> PixelSize | None:
    sides = []
    for axis in "YX":
        value = None if pixels is None else pixels.get(f"PhysicalSize{axis}")
        # The schema's default unit is the micrometre.
        unit = "µm" if pixels is None else pixels.get(f"PhysicalSize{axis}Unit", "µm")
        if value is None or unit not in _MICRONS:
            return None
        sides.append(float(value) * _MICRONS[unit])
    return _microns(*sides)


def _pixel_length(resolution: Any) -> float:
    """Units a pixel from a resolution tag, which says pixels a unit as a fraction; 0 unknown."""
    try:
        pixels, units = resolution
    except TypeError:
        return 0.0
    return units / pixels if pixels else 0.0


def _microns(rows: float, cols: float) -> PixelSize | None:
    return PixelSize(rows, cols, "um") if 0 < min(rows, cols) < float("inf") else None
