"""Which pages of a TIFF make up the image, its bands and its levels, by tifffile's reading."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from tilseg.choice import Choice
from tilseg.errors import InputError
from tilseg.sources.address import Stored
from tilseg.sources.axes import Axis, check_range, places
from tilseg.sources.limits import MAX_SEGMENT, too_large
from tilseg.sources.tiff_checks import check_segments
from tilseg.sources.tiff_decode import decoder
from tilseg.sources.tiff_header import Segments
from tilseg.sources.tiff_segments import Page

# Letters of tifffile for an axis, and the option that chooses a place on it. "I" and "Q" are
# the pages of a file that says no more about them.
_OPTIONS = {"C": "channel", "Z": "z", "T": "t", "I": "z", "Q": "z"}


@dataclass(frozen=True, slots=True)
class Layout:
    """One level as bands: band k is sample `bands[k][1]` of page `bands[k][0]`.

    alpha: the same for the alpha band, or None.
    """

    pages: tuple[Page, ...]
    bands: tuple[tuple[int, int], ...]
    alpha: tuple[int, int] | None

    @property
    def rows(self) -> int:
        return self.pages[0].rows

    @property
    def cols(self) -> int:
        return self.pages[0].cols


def check_alone(path: Stored, tif: Any) -> None:
    """Raise InputError E-INPUT-READ for one file of a multi-file OME-TIFF.

    tifffile, which is told not to open the others, would take what is here for all there is.
    """
    if tif.is_ome and all(one.kind != "ome" for one in tif.series):
        root = ElementTree.fromstring(tif.ome_metadata)
        if any(one.text != root.get("UUID") for one in root.findall(".//{*}TiffData/{*}UUID")):
            reason = "is one file of a multi-file OME-TIFF, and the others are not followed"
            raise InputError("E-INPUT-READ", path=path, reason=reason)


def choose_series(path: Stored, series: Any, choice: Choice) -> Any:
    """The image to read: the chosen one, the only one, or a slide's baseline.

    Smaller versions and masks of another image do not count, nor do a slide's thumbnail,
    label and macro photograph. Raises InputError E-INPUT-AMBIGUOUS, listing what there is.
    """
    if choice.series is not None:
        check_range(path, "series", choice.series, len(series))
        return series[choice.series]
    baseline = [one for one in series if one.name == "Baseline"]
    whole = [one for one in series if not (one.keyframe.is_reduced or one.keyframe.is_mask)]
    images = baseline or whole or [series[0]]
    if len(images) == 1:
        return images[0]
    listed = "; ".join(f"{k}: {_sizes(one)}" for k, one in enumerate(series))
    found = f"holds {len(images)} images ({listed})"
    choose = f"series from 0 to {len(series) - 1}"
    raise InputError("E-INPUT-AMBIGUOUS", path=path, found=found, choose=choose)


def _sizes(series: Any) -> str:
    name = f"{series.name} " if series.name else ""
    return name + " x ".join(f"{a} {n}" for a, n in zip(series.axes, series.shape, strict=True))


def layouts(path: Stored, series: Any, choice: Choice) -> list[Layout]:
    """The levels of `series`, largest first, that are smaller versions of the first.

    Raises InputError for axes left open, missing pages, and segments too large or cut off.
    """
    if series.kind == "bif":
        reason = "is a Ventana BIF, whose tiles overlap and must be stitched"
        raise InputError("E-INPUT-FORMAT", path=path, reason=reason, expected="it the suffix .bif")
    found = [_layout(path, level, choice) for level in series.levels]
    first = found[0]
    return [first] + [one for one in found[1:] if _is_smaller(one, first)]


def _is_smaller(level: Layout, full: Layout) -> bool:
    """Whether a level shows the whole image: its sides are divided by the same number.

    Rounding may have moved either side by a pixel.
    """
    factor = full.rows / level.rows
    slack = 1 + full.cols / full.rows
    same_shape = abs(full.cols / factor - level.cols) <= slack
    return level.rows < full.rows and same_shape and level.bands == full.bands


def _layout(path: Stored, series: Any, choice: Choice) -> Layout:
    keyframe = series.keyframe
    samples = int(keyframe.samplesperpixel)
    if keyframe.imagedepth > 1 or series.transform is not None:
        reason = f"holds {_sizes(series)} in one page, which can't be read plane by plane"
        raise InputError("E-INPUT-READ", path=path, reason=reason)
    axes = _outer_axes(series, samples)
    chosen, channels = places(path, axes, choice, shown=_sizes(series), bands_inside=samples > 1)
    shape = [axis.size for axis in axes]
    numbers = [int(np.ravel_multi_index(place, shape)) if shape else 0 for place in chosen]
    pages = _pages(path, series, numbers, math.prod(shape))
    colours, alpha = _split_alpha(keyframe, samples)
    if channels:
        return Layout(pages, tuple((k, 0) for k in range(len(pages))), None)
    return Layout(pages, tuple((0, s) for s in colours), None if alpha is None else (0, alpha))


def _outer_axes(series: Any, samples: int) -> list[Axis]:
    """Axes that run over pages, first to last."""
    axes = list(zip(series.axes, series.shape, strict=True))
    inner = [(a, n) for a, n in axes if a == "S" and n == samples]
    if not inner and samples > 1:
        # Channels of OME may be the samples of one page.
        inner = [(a, n) for a, n in axes if a == "C" and n == samples]
    outer = [(a, n) for a, n in axes if a not in "YX" and (a, n) not in inner[:1]]
    return [Axis(a, int(n), _OPTIONS.get(a, "")) for a, n in outer]


def _split_alpha(keyframe: Any, samples: int) -> tuple[list[int], int | None]:
    """Samples that are data, and the alpha among them: ExtraSamples 1 or 2 (TIFF 6.0)."""
    extra = [int(kind) for kind in keyframe.extrasamples]
    alphas = [samples - len(extra) + k for k, kind in enumerate(extra) if kind in (1, 2)]
    if not alphas or samples == 1:
        return list(range(samples)), None
    return [s for s in range(samples) if s != alphas[0]], alphas[0]


def _pages(path: Stored, series: Any, numbers: list[int], count: int) -> tuple[Page, ...]:
    if len(series) != count or not _all_there(series, count):
        return tuple(_virtual_page(path, series, number, count) for number in numbers)
    return tuple(_page(path, series, number) for number in numbers)


def _all_there(series: Any, count: int) -> bool:
    # ImageJ and tifffile may write one directory for a whole stack; other kinds list theirs.
    # Levels in SubIFDs are not among the pages of the file.
    if count == 1 or series.kind not in ("imagej", "shaped"):
        return True
    return bool(series[0].index + count <= len(series.parent.pages))


def _page(path: Stored, series: Any, number: int) -> Page:
    frame, keyframe = series[number], series.keyframe
    if frame is None:
        reason = (
            f"its plane {number} is not in this file (a multi-file OME-TIFF keeps it in another)"
        )
        raise InputError("E-INPUT-READ", path=path, reason=reason)
    segments = _segments(keyframe)
    offsets = np.array(frame.dataoffsets, np.uint64)
    counts = np.array(frame.databytecounts, np.uint64)
    check_segments(path, segments, offsets, counts)
    dtype = np.dtype(keyframe.dtype)
    raw = _is_raw(keyframe, dtype)
    samples = keyframe.samplesperpixel if segments.planes == 1 else 1
    size = segments.rows * segments.cols * samples * dtype.itemsize
    if size > MAX_SEGMENT and not raw:
        raise too_large(path, segments.kind, size)
    if raw:
        dtype = dtype.newbyteorder(keyframe.parent.byteorder)
        _check_raw(path, segments, keyframe, counts, samples * dtype.itemsize)
    return Page(
        segments=segments,
        rows=int(keyframe.imagelength),
        cols=int(keyframe.imagewidth),
        samples=samples,
        offsets=offsets,
        counts=counts,
        decode=None if raw else decoder(frame, keyframe, segments),
        dtype=dtype,
    )


def _virtual_page(path: Stored, series: Any, number: int, count: int) -> Page:
    """Plane `number` of a stack whose planes follow each other behind one directory."""
    keyframe = series.keyframe
    dtype = np.dtype(keyframe.dtype)
    if series.dataoffset is None or not _is_raw(keyframe, dtype) or keyframe.planarconfig == 2:
        reason = f"declares {_sizes(series)}, {count} planes, and has {len(series)}"
        raise InputError("E-INPUT-READ", path=path, reason=reason)
    rows, cols = int(keyframe.imagelength), int(keyframe.imagewidth)
    samples = int(keyframe.samplesperpixel)
    size = rows * cols * samples * dtype.itemsize
    segments = Segments("strip", rows, cols, (1, 1), 1)
    offsets = np.array([series.dataoffset + number * size], np.uint64)
    counts = np.array([size], np.uint64)
    check_segments(path, segments, offsets, counts)
    stored = dtype.newbyteorder(keyframe.parent.byteorder)
    return Page(segments, rows, cols, samples, offsets, counts, None, stored)


def _segments(keyframe: Any) -> Segments:
    rows, cols = int(keyframe.imagelength), int(keyframe.imagewidth)
    planes = int(keyframe.samplesperpixel) if keyframe.planarconfig == 2 else 1
    if keyframe.is_tiled:
        kind, tall, wide = "tile", int(keyframe.tilelength), int(keyframe.tilewidth)
    else:
        kind, tall, wide = "strip", min(int(keyframe.rowsperstrip), rows), cols
    return Segments(kind, tall, wide, (-(-rows // tall), -(-cols // wide)), planes)


def _is_raw(keyframe: Any, dtype: np.dtype[Any]) -> bool:
    """Whether rows of a strip can be read where they lie: plain numbers, uncompressed."""
    plain = keyframe.compression == 1 and keyframe.predictor == 1 and keyframe.fillorder == 1
    whole = keyframe.bitspersample == 8 * dtype.itemsize and not keyframe.is_subsampled
    return bool(plain and whole and not keyframe.is_tiled)


def _check_raw(
    path: Stored, segments: Segments, keyframe: Any, counts: NDArray[np.uint64], pixel: int
) -> None:
    """Raise InputError E-INPUT-TRUNCATED for uncompressed strips with too few bytes."""
    rows = np.full(segments.grid[0], segments.rows)
    rows[-1] = int(keyframe.imagelength) - segments.rows * (segments.grid[0] - 1)
    needed = np.tile(rows * segments.cols * pixel, segments.planes).astype(np.uint64)
    counts = counts[: segments.count]
    short = (counts < needed) & (counts > 0)
    if short.any():
        first = int(short.argmax())
        reason = f"strip {first} has {int(counts[first]):,} of {int(needed[first]):,} bytes"
        raise InputError("E-INPUT-TRUNCATED", path=path, reason=reason)
