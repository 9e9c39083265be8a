"""Georeferenced TIFFs, and TIFFs with GDAL's masks, through rasterio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rasterio
from rasterio.enums import ColorInterp

import tilseg.gdal_env  # noqa: F401
from tilseg.choice import Choice
from tilseg.errors import InputError
from tilseg.georef import Georef
from tilseg.sources import tiff_header as tags
from tilseg.sources.axes import check_range
from tilseg.sources.gdal import GdalSource, Handles, MissingCodec, georef_of
from tilseg.sources.jpeg_ends import JpegEnds
from tilseg.sources.palette import Palette, palette_of
from tilseg.sources.tiff_checks import check_directory
from tilseg.sources.tiff_header import Directory, read_directories
from tilseg.window import Window


def open_path(path: Path, choice: Choice) -> GeoTiffSource | None:
    """The image at `path`, or None for one without any georeference, GDAL nodata or mask.

    None too for a codec that GDAL does not have here: the tiff reader may have it.
    Raises InputError for a damaged file, UsageError for a choice the file does not offer.
    """
    directories = read_directories(path)
    if not _may_be_map(directories):
        return None
    images = [one for one in directories if not (one.is_reduced or one.is_mask)]
    image = _choose(path, images or list(directories[:1]), choice)
    for directory in directories:
        check_directory(directory)
    try:
        source = GeoTiffSource(path, choice, image)
    except MissingCodec:
        return None
    return source if source.is_gdals else None


def open_plain(path: Path, choice: Choice, directory: Directory, why: str) -> GeoTiffSource:
    """A TIFF that the tiff reader can't decode, `why` being the reason noted."""
    choice.refuse_all_but(path, "palette")
    try:
        source = GeoTiffSource(path, choice, directory)
    except MissingCodec:
        reason = f"is stored as {why}, which neither library here can decode"
        raise InputError("E-INPUT-READ", path=path, reason=reason) from None
    source.notes = (*source.notes, f"read by rasterio, for it is stored as {why}")
    return source


def _may_be_map(directories: tuple[Directory, ...]) -> bool:
    first = directories[0]
    if first.text(tags.DESCRIPTION).startswith("Aperio"):
        # rasterio takes the label and the photograph of a slide for overviews of it.
        return False
    known = {*tags.GEO_TAGS, tags.GDAL_METADATA, tags.RPC}
    return bool(known & first.tags.keys()) or any(one.is_mask for one in directories)


def _choose(path: Path, images: list[Directory], choice: Choice) -> Directory:
    choice.refuse_all_but(path, "series", "palette")
    last = len(images) - 1
    if choice.series is None and last:
        listed = "; ".join(f"{k}: {one.rows} x {one.cols}" for k, one in enumerate(images))
        raise InputError(
            "E-INPUT-AMBIGUOUS",
            path=path,
            found=f"holds {len(images)} images ({listed})",
            choose=f"series from 0 to {last}",
        )
    series = choice.series or 0
    check_range(path, "series", series, len(images))
    if images[series].number(tags.ORIENTATION, 1) != 1:
        raise images[series].refuse("is turned by an orientation tag, which a map must not have")
    return images[series]


def place(directory: Directory) -> tuple[Georef, float | None]:
    """Georeference and nodata of an image that GDAL can't decode.

    GDAL is shown a TIFF of one pixel with the image's geographic tags.
    """
    pixel = directory.without_pixels(tags.GEO_TAGS)
    with rasterio.MemoryFile(pixel) as memory, memory.open(driver="GTiff") as dataset:
        return georef_of(dataset)[0], dataset.nodata


class GeoTiffSource(GdalSource):
    """One image of a TIFF, its overviews as levels."""

    def __init__(self, path: Path, choice: Choice, directory: Directory) -> None:
        self._directory = directory
        self._ends = JpegEnds(path, read_directories(path))
        # Absolute: rasterio takes a relative name with a colon for the address of something else.
        name, number = str(path.absolute()), directory.index + 1
        # Only the first image of a file shows its overviews when opened by number.
        name = name if number == 1 else f"GTIFF_DIR:{number}:{name}"
        super().__init__(path, choice, Handles(path, name, "GTiff"), directory.segment_bytes)

    def _choose_palette(self, path: Path, choice: Choice, dataset: Any) -> Palette | None:
        # GDAL may keep a palette without saying so in PhotometricInterpretation.
        shown = dataset.colorinterp[0] is ColorInterp.palette
        used = shown and tags.COLOR_MAP in self._directory.tags
        return palette_of(path, choice, self._directory, used=used)

    def _check_pixels(self, window: Window, level: int) -> None:
        self._ends.check(window, self.levels[level].size)
