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

    From OME-XML, Aperio's and Philips' descriptions, ImageJ's with its resolution tags, or the
    resolution tags alone (Hamamatsu, QPTIFF and others). Never from the power of the objective.
    """
    if tif.is_ome:
        return _of_ome(_ome_pixels(tif, series))
    description = series.keyframe.description or ""
    if series.kind == "svs":
        found = re.search(r"\|\s*MPP\s*=\s*([0-9.]+)", description)
        return _microns(float(found[1]), float(found[1])) if found else None
    if series.kind == "philips":
        return _of_philips(tif.philips_metadata)
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


def channel_names(tif: Any, series: Any) -> tuple[str, ...]:
    """Names of the channels in OME-XML, ImageJ's labels of planes or the descriptions of
    PerkinElmer QPTIFF; "" for one without, empty where the file names none."""
    if tif.is_ome:
        pixels = _ome_pixels(tif, series)
        found = [] if pixels is None else pixels.findall("{*}Channel")
        return tuple(one.get("Name", "") for one in found)
    channels = dict(zip(series.axes, series.shape, strict=True)).get("C", 1)
    if tif.is_imagej:
        labels = (tif.imagej_metadata or {}).get("Labels") or ()
        # One a plane: of a stack of several axes they tell more than the channel.
        return tuple(map(str, labels)) if len(labels) == channels else ()
    if series.kind == "qpi":
        return tuple(_qptiff_text(page, "Name") for page in series.pages)
    return ()


def _qptiff_text(page: Any, name: str) -> str:
    """An element of a page's description in a QPTIFF, "" where it has none."""
    if not page.description:
        return ""
    return (ElementTree.fromstring(page.description).findtext(f".//{name}") or "").strip()


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


def _of_philips(xml: str) -> PixelSize | None:
    """Of the first representation, which is the full size; its spacing is rows, columns in mm."""
    levels = ".//DataObject[@ObjectType='PixelDataRepresentation']"
    spacing = f"{levels}/Attribute[@Name='DICOM_PIXEL_SPACING']"
    for one in ElementTree.fromstring(xml).iterfind(spacing):
        rows, cols = (one.text or "").replace('"', " ").split()
        return _microns(float(rows) * 1e3, float(cols) * 1e3)
    return None


def _pixel_length(resolution: Any) -> float:
    """Units a pixel from a resolution tag, which says pixels a unit as a fraction; 0 unknown."""
    try:
        pixels, units = resolution
    except TypeError:
        return 0.0
    return units / pixels if pixels else 0.0


def _microns(rows: float, cols: float) -> PixelSize | None:
    return PixelSize(rows, cols, "um") if 0 < min(rows, cols) < float("inf") else None
