"""Pyramidal OME-TIFF with physical pixel size, through tifffile."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from tilseg.budget import usable_cpus
from tilseg.sink import Mask, Progress, windows_of
from tilseg.sinks.ngff import micrometres
from tilseg.sinks.staging import staged
from tilseg.window import Size, Window

_TILE = 512  # pixels
_STRIP = Size(_TILE, 8 * _TILE)  # what is read at once
_BUFFER = 2**24  # bytes of tiles that are compressed side by side; tifffile's own is 512 MB
_BIG = 2**31  # bytes uncompressed from which 64-bit offsets are used, as GDAL's IF_SAFER
_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


class OmeTiff:
    """Export to OME-TIFF (2016-06): 512-pixel DEFLATE tiles, the mask's levels as SubIFDs.

    DEFLATE, because Bio-Formats, QuPath, OpenSlide and every TIFF library read it. Pixels are
    plain greys, so that every reader gives back class values and none expands a palette; the
    classes' names and colours are map annotations, and so is how the mask was made. The physical pixel size is in the XML and
    in the resolution tags, where the mask's is in micrometres; otherwise it has none.
    """

    suffix = ".tif"

    def write(self, mask: Mask, path: Path, progress: Progress | None = None) -> None:
        """See `tilseg.sink.Sink.write`; a step is a strip of a level."""
        sizes = [level.size for level in mask.levels]
        strips = [list(windows_of(size, _STRIP)) for size in sizes]
        done, total = 0, sum(map(len, strips))

        def tiles(level: int) -> Iterator[NDArray[Any]]:
            nonlocal done
            for strip in strips[level]:
                if progress is not None:
                    progress(done, total)
                done += 1
                yield from _tiles(mask.read(strip, level), mask.nodata)

        big = sum(size.area for size in sizes) * mask.dtype.itemsize >= _BIG
        with staged(path) as folder, tifffile.TiffWriter(folder / path.name, bigtiff=big) as tiff:
            for level, size in enumerate(sizes):
                first = {"description": ome_xml(mask), "subifds": len(sizes) - 1}
                tiff.write(
                    tiles(level),
                    shape=size,
                    dtype=mask.dtype,
                    tile=(_TILE, _TILE),
                    photometric="minisblack",
                    compression="zlib",
                    maxworkers=usable_cpus(),
                    buffersize=_BUFFER,
                    metadata=None,
                    software=mask.provenance.get("software", "tilseg"),
                    **_resolution(mask, 2**level),
                    **(first if level == 0 else {"subfiletype": 1}),
                )
        if progress is not None:
            progress(total, total)


def _tiles(strip: NDArray[Any], nodata: int) -> Iterator[NDArray[Any]]:
    """The tiles of a strip in raster order, filled up with nodata at the edges."""
    for window in windows_of(Size(*strip.shape), Size(_TILE, _TILE)):
        tile = np.full((_TILE, _TILE), nodata, strip.dtype)
        tile[Window.whole(window.size).slices] = strip[window.slices]
        yield tile


def _resolution(mask: Mask, factor: int) -> dict[str, Any]:
    """TIFF's own pixel size, for readers that look no further: pixels per centimetre."""
    pixel = micrometres(mask.georef)
    if pixel is None:
        return {}
    per_centimetre = (1e4 / (pixel.cols * factor), 1e4 / (pixel.rows * factor))
    return {"resolution": per_centimetre, "resolutionunit": "CENTIMETER"}


def ome_xml(mask: Mask) -> bytes:
    """The OME-XML of a mask, in ASCII: what TIFF allows in a description.

    Names and colours of the classes are two map annotations from class value to text; the
    schema has no place for a colour a value. How the mask was made is a third.
    """
    root = ET.Element(
        "OME",
        {
            "xmlns": _SCHEMA,
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:schemaLocation": f"{_SCHEMA} {_SCHEMA}/ome.xsd",
            "Creator": "tilseg",
        },
    )
    image = ET.SubElement(root, "Image", ID="Image:0", Name=mask.name)
    pixels = ET.SubElement(image, "Pixels", _pixels(mask))
    ET.SubElement(pixels, "Channel", ID="Channel:0:0", Name="class", SamplesPerPixel="1")
    ET.SubElement(pixels, "TiffData", IFD="0", PlaneCount="1")
    annotations = ET.SubElement(root, "StructuredAnnotations")
    names = {str(value): c.name for value, c in enumerate(mask.classes)}
    colors = {str(value): c.color for value, c in enumerate(mask.classes)}
    made = dict(mask.provenance)
    for kind, content in (("names", names), ("colors", colors), ("provenance", made)):
        identity = {"ID": f"Annotation:{kind}"}
        ET.SubElement(image, "AnnotationRef", identity)
        note = ET.SubElement(annotations, "MapAnnotation", identity, Namespace=f"tilseg/{kind}")
        value = ET.SubElement(note, "Value")
        for key, text in content.items():
            ET.SubElement(value, "M", K=key).text = text
    return bytes(ET.tostring(root, encoding="us-ascii", xml_declaration=True))


def _pixels(mask: Mask) -> dict[str, str]:
    attributes = {
        "ID": "Pixels:0",
        "DimensionOrder": "XYCZT",
        "Type": mask.dtype.name,
        "SizeX": str(mask.shape.cols),
        "SizeY": str(mask.shape.rows),
        "SizeC": "1",
        "SizeZ": "1",
        "SizeT": "1",
    }
    pixel = micrometres(mask.georef)
    if pixel is not None:
        attributes |= {
            "PhysicalSizeX": str(float(pixel.cols)),
            "PhysicalSizeXUnit": "\u00b5m",
            "PhysicalSizeY": str(float(pixel.rows)),
            "PhysicalSizeYUnit": "\u00b5m",
        }
    return attributes
