"""GDAL's VRT: one image put together from others, which are followed only when that is allowed.

A VRT can name any file or address and run code. So only its plainest form is read: bands made of
parts of TIFFs on this machine, by an XML of known elements, which is written anew for GDAL from
what was understood of it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from rasterio.enums import ColorInterp

from tilseg.choice import Choice
from tilseg.errors import InputError, UsageError
from tilseg.source import file_identity
from tilseg.sources.gdal import GdalSource, Handles, in_words
from tilseg.sources.limits import check_stored
from tilseg.sources.palette import Palette
from tilseg.sources.tiff_checks import check_directory
from tilseg.sources.tiff_header import is_tiff, read_directories

_MAX_BYTES = 2**26
_NAMES = ("SourceFilename", "SourceDataset")
# What is dropped says nothing about pixels; what is in neither list is refused.
_KEPT = {
    "VRTDataset", "SRS", "GeoTransform", "OverviewList", "VRTRasterBand", "NoDataValue",
    "HideNoDataValue", "ColorInterp", "ColorTable", "Entry", "Description", "MaskBand",
    "SimpleSource", "ComplexSource", *_NAMES, "SourceBand", "SourceProperties", "SrcRect",
    "DstRect", "NODATA", "UseMaskBand", "ScaleOffset", "ScaleRatio",
}  # fmt: skip
_DROPPED = {"Metadata", "UnitType", "Offset", "Scale", "CategoryNames", "Histograms"}


def open_path(path: Path, choice: Choice) -> VrtSource:
    """The image of a VRT.

    Raises InputError: E-INPUT-VRT unless following is allowed, E-INPUT-READ for what is more
    than parts of TIFFs put together, and what the TIFFs themselves give reason for.
    """
    if choice.vrt != "follow":
        raise InputError("E-INPUT-VRT", path=path)
    choice.refuse_all_but(path, "palette", "vrt")
    return VrtSource(path, choice)


class VrtSource(GdalSource):
    """A VRT and the TIFFs it is made of."""

    def __init__(self, path: Path, choice: Choice) -> None:
        root = _parse(path)
        self.parts = tuple(sorted(_follow(path, root)))
        segment = max(_check_part(part) for part in self.parts)
        _check_filled(path, root)
        text = ElementTree.tostring(root, encoding="unicode")
        super().__init__(path, choice, Handles(path, text, "VRT"), segment)
        self.notes = (*self.notes, f"put together from {len(self.parts)} files")

    def _choose_palette(self, path: Path, choice: Choice, dataset: Any) -> Palette | None:
        if dataset.colorinterp[0] is not ColorInterp.palette:
            if choice.palette == "expand":
                raise UsageError("E-CHOICE", path=path, option="palette", value="expand")
            return None
        if choice.palette is None:
            raise InputError("E-INPUT-PALETTE", path=path)
        colours = np.zeros((2**16, 3), np.uint8)
        for number, colour in dataset.colormap(1).items():
            colours[number] = colour[:3]
        return Palette(colours) if choice.palette == "expand" else None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path, *self.parts)

    def identity(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for part in self.parts:
            # There may be thousands.
            digest.update(json.dumps(file_identity(part, 2**16), sort_keys=True).encode())
        own = file_identity(self.path)
        return {**own, "choice": str(self.choice), "sha256_parts": digest.hexdigest()}


def _refuse(path: Path, reason: str) -> InputError:
    return InputError("E-INPUT-READ", path=path, reason=f"the VRT {reason}")


def _parse(path: Path) -> ElementTree.Element:
    """The root of the XML, of known elements only."""
    with path.open("rb") as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise _refuse(path, "is larger than 64 MiB")
    if b"<!DOCTYPE" in content:
        raise _refuse(path, "declares entities, which are not expanded")
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise _refuse(path, f"is no XML: {error}") from None
    for element in root.iter():
        for child in list(element):
            if child.tag in _DROPPED:
                element.remove(child)
            elif child.tag not in _KEPT:
                raise _refuse(path, f"holds <{child.tag}>, which is not followed")
        if element.get("subClass"):
            raise _refuse(path, f"is a {element.get('subClass')}, which is not followed")
    if root.tag != "VRTDataset":
        raise _refuse(path, f"begins with <{root.tag}>")
    if "://" in (root.findtext("SRS") or ""):
        raise _refuse(path, "gives an address for its coordinates")
    return root


def _follow(path: Path, root: ElementTree.Element) -> set[Path]:
    """The files it names, whose names are made absolute in it."""
    parts = set()
    for element in root.iter():
        if element.tag in _NAMES:
            name = element.text or ""
            part = Path(name) if element.get("relativeToVRT") != "1" else path.parent / name
            element.text = str(part.absolute())
            element.attrib.clear()
            parts.add(Path(element.text))
    if not parts:
        raise _refuse(path, "names no file")
    return parts


def _check_part(part: Path) -> int:
    """Bytes of one strip or tile of a part; raises InputError unless it is a sound TIFF."""
    magic = b""
    if part.is_file():
        with part.open("rb") as file:
            magic = file.read(4)
    if not is_tiff(magic):
        raise _refuse(part, "names this, which is no TIFF on this machine")
    directories = read_directories(part)
    for directory in directories:
        check_directory(directory)
    if sum(not (one.is_reduced or one.is_mask) for one in directories) > 1:
        raise _refuse(part, "names this, which holds more than one image")
    handles = Handles(part, str(part), "GTiff")
    with in_words(part), handles.use(0):
        # Opening it is what finds references of its own.
        handles.close()
    return max(directory.segment_bytes for directory in directories)


def _check_filled(path: Path, root: ElementTree.Element) -> None:
    """Raise InputError E-INPUT-SPARSE for a giant that its parts leave empty."""
    try:
        pixels = int(root.attrib["rasterXSize"]) * int(root.attrib["rasterYSize"])
        rects = [element.attrib for element in root.iter("DstRect")]
        filled = sum(float(rect["xSize"]) * float(rect["ySize"]) for rect in rects)
    except (KeyError, ValueError) as error:
        raise _refuse(path, f"has no size that makes sense: {error}") from None
    check_stored(path, pixels=pixels, stored=int(filled), count=pixels, kind="pixel")
