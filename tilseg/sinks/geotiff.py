"""Cloud-optimised GeoTIFF on the input's grid, through rasterio."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError  # what shutil.copy raises has no public name
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

import tilseg.gdal_env  # noqa: F401
from tilseg.errors import OutputError
from tilseg.sink import Mask, Progress, windows_of
from tilseg.sinks.ngff import rgb
from tilseg.sinks.staging import staged
from tilseg.window import Size, Window

_TILE = 512  # pixels, what the COG driver and most tile servers use
_STEP = Size(4 * _TILE, 4 * _TILE)
# Where GeoTIFF's keys can't say the CRS, the copy has to find it beside the original.
_GDAL = {"GDAL_DISABLE_READDIR_ON_OPEN": "FALSE"}


class GeoTiff:
    """Export to COG: 512-pixel tiles, DEFLATE, palette, nodata, `mode` overviews.

    DEFLATE, because every TIFF reader has it and its checksum shows bit rot; ZSTD needs a
    libtiff built with it. CRS and transform are the input's to the last bit; what GeoTIFF's
    keys can't say, GDAL puts into an `.aux.xml` beside the file. The classes' names are the
    items CLASS_0, CLASS_1, ... of the band's metadata.
    """

    suffix = ".tif"

    def write(self, mask: Mask, path: Path, progress: Progress | None = None) -> None:
        """See `tilseg.sink.Sink.write`. Takes up to twice the file's size beside it meanwhile.

        The COG driver wants a whole raster to copy from, so the first half of the steps fills
        a plain tiled TIFF window by window; the copy, which reports nothing, is the second.
        """
        windows = list(windows_of(mask.shape, _STEP))
        with staged(path) as folder, rasterio.Env(**_GDAL):
            plain = folder / "work" / "plain.tif"
            plain.parent.mkdir()
            try:
                checksums = _fill(plain, mask, windows, progress)
                _copy(plain, folder / path.name)
                _check(folder / path.name, windows, checksums)
            # A full disk seen by one of GDAL's threads reaches Python as SystemError.
            except (RasterioError, CPLE_BaseError, SystemError) as error:
                reason = error.__cause__ or error
                raise OutputError("E-OUTPUT-WRITE", path=path, reason=reason) from error
        if progress is not None:
            progress(2 * len(windows), 2 * len(windows))


def _fill(
    plain: Path, mask: Mask, windows: Sequence[Window], progress: Progress | None
) -> list[int]:
    """Write the mask as a plain tiled GeoTIFF; returns the CRC-32 of each window."""
    checksums = []
    with rasterio.open(plain, "w", **_profile(mask)) as dataset:
        dataset.write_colormap(1, _palette(mask))
        dataset.set_band_description(1, "class")
        names = {f"CLASS_{value}": c.name for value, c in enumerate(mask.classes)}
        dataset.update_tags(1, **names)
        for done, window in enumerate(windows, start=1):
            labels = mask.read(window)
            dataset.write(labels, 1, window=_raster_window(window))
            checksums.append(zlib.crc32(labels.data))
            if progress is not None:
                progress(done, 2 * len(windows))
    return checksums


def _check(path: Path, windows: Sequence[Window], checksums: Sequence[int]) -> None:
    """Read all of the file back, for GDAL's errors on closing never reach Python.

    Without this a disk that is full at the last tiles of either file ends in a COG with holes.
    """
    with rasterio.open(path) as dataset:
        levels = len(dataset.overviews(1))
        for window, checksum in zip(windows, checksums, strict=True):
            if zlib.crc32(dataset.read(1, window=_raster_window(window)).data) != checksum:
                reason = f"{window} read back differently; the disk may be full"
                raise OutputError("E-OUTPUT-WRITE", path=path, reason=reason)
    for level in range(levels):
        with rasterio.open(path, overview_level=level) as overview:
            for window in windows_of(Size(*overview.shape), _STEP):
                overview.read(1, window=_raster_window(window))


def _raster_window(window: Window) -> RasterWindow:
    return RasterWindow(window.col, window.row, window.cols, window.rows)


def _profile(mask: Mask) -> dict[str, Any]:
    georef = mask.georef
    profile: dict[str, Any] = {
        "driver": "GTiff",
        "height": mask.shape.rows,
        "width": mask.shape.cols,
        "count": 1,
        "dtype": mask.dtype.name,
        "nodata": mask.nodata,
        "tiled": True,
        "blockxsize": _TILE,
        "blockysize": _TILE,
        "compress": "deflate",
        "zlevel": 1,
        "bigtiff": "if_safer",
        # No num_threads: with them this driver reports no full disk, even long before closing.
    }
    if georef.crs is not None:
        profile["crs"] = CRS.from_wkt(georef.crs)
    if georef.transform is not None:
        profile["transform"] = georef.affine
    return profile


def _palette(mask: Mask) -> dict[int, tuple[int, int, int, int]]:
    palette = {value: (*rgb(c.color), 255) for value, c in enumerate(mask.classes)}
    return {**palette, mask.nodata: (0, 0, 0, 0)}


def _copy(plain: Path, target: Path) -> None:
    rasterio.shutil.copy(
        plain,
        target,
        driver="COG",
        blocksize=_TILE,
        compress="DEFLATE",
        level=5,  # 6 takes 1.6 times the time for a file 10 % smaller
        predictor="NO",
        overview_resampling="MODE",
        bigtiff="IF_SAFER",
        # The bytes do not depend on the number of threads, the memory does: each holds rows of
        # the whole width for the overviews (64,000 pixels wide: 1 235 MB, 2 346, 16 1,070).
        num_threads=2,
    )
