"""The classes of a mask as GIS programs read them, in files beside a GeoTIFF, which has no place
for names: GDAL's `.aux.xml` and QGIS's style `.qml`. Only XML: nothing here opens an image."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from tilseg.card import ClassInfo
from tilseg.sinks.ngff import rgb

# Columns of the attribute table: name, type and usage, by their numbers in GDAL's gdal_rat.h.
_INTEGER, _REAL, _TEXT = ("0", "Integer"), ("1", "Real"), ("2", "String")
_COLUMNS = (
    ("Value", _INTEGER, ("5", "MinMax")),
    ("Class", _TEXT, ("2", "Name")),
    ("Red", _INTEGER, ("6", "Red")),
    ("Green", _INTEGER, ("7", "Green")),
    ("Blue", _INTEGER, ("8", "Blue")),
    ("Count", _REAL, ("1", "PixelCount")),  # its integers have 32 bits
)


def aux_xml(classes: Sequence[ClassInfo], counts: Sequence[int], found: bytes | None) -> bytes:
    """Content of the `.aux.xml` of a mask: names as categories and as an attribute table.

    Both, because QGIS before 3.30 takes names from categories alone, and ArcGIS from the table.
    counts: pixels of each class. found: what GDAL wrote there itself, such as a CRS that GeoTIFF
    can't hold; it stays.
    """
    root = ET.Element("PAMDataset") if found is None else ET.fromstring(found)
    band = root.find("PAMRasterBand[@band='1']")
    if band is None:
        band = ET.SubElement(root, "PAMRasterBand", band="1")
    names = ET.SubElement(band, "CategoryNames")
    for info in classes:
        ET.SubElement(names, "Category").text = info.name
    table = ET.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, (name, kind, usage) in enumerate(_COLUMNS):
        column = ET.SubElement(table, "FieldDefn", index=str(index))
        ET.SubElement(column, "Name").text = name
        ET.SubElement(column, "Type", typeAsString=kind[1]).text = kind[0]
        ET.SubElement(column, "Usage", usageAsString=usage[1]).text = usage[0]
    for value, (info, count) in enumerate(zip(classes, counts, strict=True)):
        row = ET.SubElement(table, "Row", index=str(value))
        for cell in (value, info.name, *rgb(info.color), count):
            ET.SubElement(row, "F").text = str(cell)
    return _text(root)


def style_qml(classes: Sequence[ClassInfo], background: int | None) -> bytes:
    """A QGIS style of a mask's classes with their names; the background is see-through.

    QGIS takes it by itself where it has the GeoTIFF's name and the suffix `.qml`. Without it all
    256 entries of the palette are in the legend.
    """
    root = ET.Element("qgis", version="3.22", styleCategories="Symbology")
    pipe = ET.SubElement(root, "pipe")
    options = {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1"}
    renderer = ET.SubElement(pipe, "rasterrenderer", options)
    palette = ET.SubElement(renderer, "colorPalette")
    for value, info in enumerate(classes):
        entry = {
            "value": str(value),
            "color": info.color,
            "alpha": "0" if value == background else "255",
            "label": info.name,
        }
        ET.SubElement(palette, "paletteEntry", entry)
    return b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + _text(root)


def _text(root: ET.Element) -> bytes:
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8")) + b"\n"
