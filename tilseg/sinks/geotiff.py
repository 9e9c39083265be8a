"""Cloud-optimised GeoTIFF on the input's grid, through rasterio."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError  # what shutil.copy raises has no public name
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

import tilseg.gdal_env  # noqa: F401
from tilseg.card import ClassInfo
from tilseg.errors import OutputError
from tilseg.georef import Georef
from tilseg.sink import Mask, Progress, windows_of
from tilseg.sinks.legend import aux_xml
from tilseg.sinks.ngff import rgb
from tilseg.sinks.probabilities import ProbabilityStore
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
    keys can't say, GDAL puts into an `.aux.xml` beside the file. There too are the classes' names,
    as categories and as an attribute table with the pixels of each (`tilseg.sinks.legend`); in
    the file itself they are the items CLASS_0, CLASS_1, ... of the band's metadata. How the mask
    was made is in the items TILSEG_MODEL and so on.
    """

    suffix = ".tif"

    def write(self, mask: Mask, path: Path, progress: Progress | None = None) -> None:
        """See `tilseg.sink.Sink.write`. Takes up to twice the file's size beside it meanwhile.

        The COG driver wants a whole raster to copy from, so the first half of the steps fills
        a plain tiled TIFF window by window; the copy, which reports nothing, is the second.
        """
        _write(_Raster.of_mask(mask), path, progress)


def write_probabilities(
    store: ProbabilityStore, path: Path, progress: Progress | None = None
) -> None:
    """The same for class probabilities: a band a class, scale 1/255, averaging overviews.

    Raises as `GeoTiff.write` does.
    """
    _write(_Raster.of_probabilities(store), path, progress)


@dataclass(frozen=True, slots=True)
class _Raster:
    """What differs between the rasters that are written.

    profile: of the dataset, beyond what all share. read: (bands, rows, cols) of a window.
    describe: sets what is known of the bands. resampling: of the overviews. classes: those that
    the values of a mask stand for, () of anything else.
    """

    shape: Size
    georef: Georef
    profile: dict[str, Any]
    read: Callable[[Window], NDArray[Any]]
    describe: Callable[[Any], None]
    resampling: str
    provenance: Mapping[str, str]
    classes: tuple[ClassInfo, ...] = ()

    @classmethod
    def of_mask(cls, mask: Mask) -> _Raster:
        def describe(dataset: Any) -> None:
            dataset.write_colormap(1, _palette(mask))
            dataset.set_band_description(1, "class")
            names = {f"CLASS_{value}": c.name for value, c in enumerate(mask.classes)}
            dataset.update_tags(1, **names)

        profile = {"count": 1, "dtype": mask.dtype.name, "nodata": mask.nodata}
        return cls(
            mask.shape,
            mask.georef,
            profile,
            lambda window: mask.read(window)[np.newaxis],
            describe,
            "MODE",
            mask.provenance,
            mask.classes,
        )

    @classmethod
    def of_probabilities(cls, store: ProbabilityStore) -> _Raster:
        def describe(dataset: Any) -> None:
            dataset.descriptions = [c.name for c in store.classes]
            dataset.scales = [1 / 255] * len(store.classes)

        return cls(
            store.shape,
            store.georef,
            {"count": len(store.classes), "dtype": "uint8", "interleave": "band"},
            lambda window: np.ascontiguousarray(np.moveaxis(store.read(window), 2, 0)),
            describe,
            "AVERAGE",
            store.provenance,
        )


def _write(raster: _Raster, path: Path, progress: Progress | None) -> None:
    windows = list(windows_of(raster.shape, _STEP))
    with staged(path) as folder, rasterio.Env(**_GDAL):
        plain = folder / "work" / "plain.tif"
        plain.parent.mkdir()
        try:
            checksums, counts = _fill(plain, raster, windows, progress)
            _copy(plain, folder / path.name, raster.resampling)
            _check(folder / path.name, windows, checksums)
            if raster.classes:
                _name_classes(folder / f"{path.name}.aux.xml", raster.classes, counts)
        # A full disk seen by one of GDAL's threads reaches Python as SystemError.
        except (RasterioError, CPLE_BaseError, SystemError) as error:
            reason = error.__cause__ or error
            raise OutputError("E-OUTPUT-WRITE", path=path, reason=reason) from error
    if progress is not None:
        progress(2 * len(windows), 2 * len(windows))


def _fill(
    plain: Path, raster: _Raster, windows: Sequence[Window], progress: Progress | None
) -> tuple[list[int], list[int]]:
    """Write a plain tiled GeoTIFF; returns the CRC-32 of each window, and the pixels of each class."""
    checksums, counts = [], [0] * len(raster.classes)
    with rasterio.open(plain, "w", **_profile(raster)) as dataset:
        raster.describe(dataset)
        dataset.update_tags(**_tags(raster.provenance))
        for done, window in enumerate(windows, start=1):
            pixels = raster.read(window)
            dataset.write(pixels, window=_raster_window(window))
            checksums.append(zlib.crc32(pixels.data))
            # For the few classes of a mask 40 times as fast as np.bincount.
            for value in range(len(counts)):
                counts[value] += int(np.count_nonzero(pixels == value))
            if progress is not None:
                progress(done, 2 * len(windows))
    return checksums, counts


def _tags(provenance: Mapping[str, str]) -> dict[str, str]:
    """How a file was made as items of GDAL's; TIFF has a tag of its own for the software."""
    names = {"software": "TIFFTAG_SOFTWARE"}
    return {names.get(key, f"TILSEG_{key.upper()}"): text for key, text in provenance.items()}


def _name_classes(path: Path, classes: Sequence[ClassInfo], counts: Sequence[int]) -> None:
    found = path.read_bytes() if path.exists() else None
    path.write_bytes(aux_xml(classes, counts, found))


def _check(path: Path, windows: Sequence[Window], checksums: Sequence[int]) -> None:
    """Read all of the file back, for GDAL's errors on closing never reach Python.

    Without this a disk that is full at the last tiles of either file ends in a COG with holes.
    """
    with rasterio.open(path) as dataset:
        levels = len(dataset.overviews(1))
        for window, checksum in zip(windows, checksums, strict=True):
            if zlib.crc32(dataset.read(window=_raster_window(window)).data) != checksum:
                reason = f"{window} read back differently; the disk may be full"
                raise OutputError("E-OUTPUT-WRITE", path=path, reason=reason)
    for level in range(levels):
        with rasterio.open(path, overview_level=level) as overview:
            for window in windows_of(Size(*overview.shape), _STEP):
                overview.read(window=_raster_window(window))


def _raster_window(window: Window) -> RasterWindow:
    return RasterWindow(window.col, window.row, window.cols, window.rows)


def _profile(raster: _Raster) -> dict[str, Any]:
    georef = raster.georef
    profile: dict[str, Any] = {
        **raster.profile,
        "driver": "GTiff",
        "height": raster.shape.rows,
        "width": raster.shape.cols,
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


def _copy(plain: Path, target: Path, resampling: str) -> None:
    rasterio.shutil.copy(
        plain,
        target,
        driver="COG",
        blocksize=_TILE,
        compress="DEFLATE",
        level=5,  # 6 takes 1.6 times the time for a file 10 % smaller
        predictor="NO",
        overview_resampling=resampling,
        bigtiff="IF_SAFER",
        # The bytes do not depend on the number of threads, the memory does: each holds rows of
        # the whole width for the overviews (64,000 pixels wide: 1 235 MB, 2 346, 16 1,070).
        num_threads=2,
    )
