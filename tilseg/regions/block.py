"""What one block knows about its regions: a small table that adds up to the whole mask's."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import DamageError
from tilseg.regions import perimeter
from tilseg.regions.components import Components, Connectivity, Rules, components
from tilseg.regions.hull import Extents
from tilseg.regions.sums import Sums, block_sums
from tilseg.window import Size, Window

# A border pixel's code reaches 2 pixels beyond it, and pixels up to 2 from a seam wait for it.
STRIP = 4
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class BlockTable:
    """Regions of one block, ready to be merged with those of all others.

    window: the block's pixels; shape: of the whole mask; rules: what formed regions.
    sums: one row a component of the block, in raster order of first pixels.
    border: (n,) bool, components that touch a side shared with another block; the others are
        final. Below, border components are counted from 1 in the order of `sums`.
    strip_rows: (min(rows, 8), cols) border component of each pixel of the first and the last
        4 rows, 0 for none; strip_cols: (rows, min(cols, 8)) the same of columns, with no
        column where `strip_rows` holds the whole block.
    open_windows, open_pixels: see `perimeter.Counts.open`.
    background, nodata: pixels of each.
    """

    window: Window
    shape: Size
    rules: Rules
    sums: Sums
    border: NDArray[np.bool_]
    strip_rows: NDArray[np.int64]
    strip_cols: NDArray[np.int64]
    open_windows: NDArray[np.int64]
    open_pixels: NDArray[np.int64]
    background: int
    nodata: int

    def to_bytes(self) -> bytes:
        """An .npz archive without times, whose integers take no more bytes than they need."""
        nodata, background = self.rules.nodata, self.rules.background
        head = [_FORMAT, *_numbers(self.window), *self.shape, self.rules.connectivity]
        head += [_none(nodata), _none(background), self.background, self.nodata]
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {f"sums.{name}": getattr(self.sums, name) for name in _SUMS}
        if self.sums.hull is not None:
            arrays |= {f"hull.{name}": v for name, v in self.sums.hull._asdict().items()}
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name, values in {"head": np.array(head), **arrays}.items():
                content = io.BytesIO()
                np.lib.format.write_array(content, _shrunk(values), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> BlockTable:
        """The table that `to_bytes` wrote. Raises DamageError E-REGION-TABLE."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                arrays = {name: _widened(archive[name]) for name in archive.files}
            head = arrays.pop("head").tolist()
            sums = {name: arrays.pop(f"sums.{name}") for name in _SUMS}
            hull = [arrays.pop(f"hull.{n}") for n in Extents._fields if f"hull.{n}" in arrays]
            if head[0] != _FORMAT:
                raise ValueError(f"format {head[0]}")
        except (ValueError, KeyError, IndexError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise DamageError("E-REGION-TABLE", reason=error) from None
        return cls(
            window=Window(*head[1:5]),
            shape=Size(*head[5:7]),
            rules=Rules(_or_none(head[8]), _or_none(head[9]), head[7]),
            sums=Sums(**sums, hull=Extents(*hull) if hull else None),
            background=head[10],
            nodata=head[11],
            **arrays,
        )


_ARRAYS = ("border", "strip_rows", "strip_cols", "open_windows", "open_pixels")
_INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32)
_SUMS = tuple(field.name for field in fields(Sums) if field.name != "hull")


def _numbers(window: Window) -> tuple[int, int, int, int]:
    return window.row, window.col, window.rows, window.cols


def _none(value: int | None) -> int:
    return -1 if value is None else value


def _or_none(value: int) -> int | None:
    return None if value < 0 else value


def _shrunk(values: NDArray[Any]) -> NDArray[Any]:
    """Integers in the smallest type that holds them, everything else as it is."""
    if values.dtype.kind not in "iu":
        return values
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    for dtype in _INTEGERS:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype)
    return values


def _widened(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(np.int64) if values.dtype.kind in "iu" else values


def measure_block(
    labels: NDArray[Any],
    origin: Window,
    *,
    shape: Size,
    nodata: int | None = 255,
    background: int | None = 0,
    connectivity: Connectivity = 2,
    image: NDArray[Any] | None = None,
    weights: NDArray[np.float64] | None = None,
    with_hull: bool = False,
) -> BlockTable:
    """Measure the regions of one block of a mask.

    labels: (rows, cols) class values, integers of any width. origin: the block in the mask.
    shape: of the whole mask. nodata, background, connectivity: see `Rules`.
    image: (rows, cols, bands) pixels for the intensity columns. weights: (rows,) or
    (rows, cols) float64, area of each pixel (of each row) in world units, for `area_world`.
    with_hull: keep hulls, for area_convex, solidity and feret_diameter_max.
    Raises InputError E-MASK-DTYPE, E-MASK-NEGATIVE, E-REGION-IMAGE or E-INPUT-DTYPE.
    """
    if labels.shape != tuple(origin.size) or not Window.whole(shape).contains(origin):
        raise ValueError(f"labels of {labels.shape} are not {origin} of a mask of {shape}")
    rules = Rules(nodata, background, connectivity)
    parts = components(labels, rules)
    sums = block_sums(parts, origin, shape, image, weights, with_hull=with_hull)
    border = border_components(sums.bbox, origin, shape)
    rank = np.where(border, np.cumsum(border), 0)
    open_windows, open_pixels = _count(parts, sums, rank, origin, shape, connectivity)
    strips = parts.paint(rank).reshape(-1, parts.stride)[1:-1, 1:-1]
    return BlockTable(
        window=origin,
        shape=shape,
        rules=rules,
        sums=sums,
        border=border,
        strip_rows=ends(strips, 0),
        strip_cols=ends(strips, 1) if origin.rows > 2 * STRIP else strips[:, :0],
        open_windows=open_windows,
        open_pixels=open_pixels,
        background=_pixels(labels, background),
        nodata=_pixels(labels, nodata),
    )


def _pixels(labels: NDArray[Any], value: int | None) -> int:
    return 0 if value is None else int(np.count_nonzero(labels == value))


def border_components(bbox: NDArray[np.int64], window: Window, shape: Size) -> NDArray[np.bool_]:
    """Which components of a block touch a side that it shares with another block."""
    shared = _shared_sides(window, shape)
    sides = (window.row, window.col, window.row_stop, window.col_stop)
    return np.asarray(((bbox == np.array(sides)) & np.array(shared)).any(axis=1))


def _shared_sides(window: Window, shape: Size) -> tuple[bool, bool, bool, bool]:
    """Whether top, left, bottom and right of a block are shared with another."""
    return (
        window.row > 0,
        window.col > 0,
        window.row_stop < shape.rows,
        window.col_stop < shape.cols,
    )


def ends(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """The first and last `STRIP` rows (axis 0) or columns, or all where there are no more."""
    length = values.shape[axis]
    if length <= 2 * STRIP:
        return values
    keep = [*range(STRIP), *range(length - STRIP, length)]
    return values.take(keep, axis=axis)


def _count(
    parts: Components,
    sums: Sums,
    rank: NDArray[np.int64],
    window: Window,
    shape: Size,
    connectivity: Connectivity,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Add the neighbourhoods this block can tell to `sums`; return the open ones by rank."""
    top, left, bottom, right = _shared_sides(window, shape)
    rows, cols = window.size
    # Component 0 is no component, here and in the counts.
    raster = perimeter.Raster(parts.kinds, parts.paint(np.arange(1, len(parts) + 1)), parts.stride)
    ranks = np.concatenate([[0], rank])
    open_ids = ranks > 0
    corners = perimeter.Bounds(int(top), rows + 1 - bottom, int(left), cols + 1 - right)
    windows = perimeter.count_windows(raster, corners, connectivity, open_ids)
    centres = perimeter.Bounds(
        1 + 2 * top, rows + 1 - 2 * bottom, 1 + 2 * left, cols + 1 - 2 * right
    )
    pixels = perimeter.count_pixels(raster, centres, connectivity, open_ids)
    for counts, table in ((windows, sums.windows), (pixels, sums.pixels)):
        keys = (counts.ids - 1) * table.shape[1] + counts.codes
        table[:] = np.bincount(keys, minlength=table.size).reshape(table.shape)
    open_windows, open_pixels = windows.open.copy(), pixels.open.copy()
    open_windows[:, ::2] = ranks[windows.open[:, ::2]]
    open_pixels[:, 0] = ranks[pixels.open[:, 0]]
    open_pixels[:, 2:] = ranks[pixels.open[:, 2:]]
    return open_windows, open_pixels
