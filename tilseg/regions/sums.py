"""The state of a region: one row of sums and extrema, and how rows are added.

A row describes a set of pixels; the row of a union of disjoint sets follows from theirs alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.regions import intensity, moments, perimeter
from tilseg.regions.components import Components, first_index
from tilseg.regions.hull import Extents, block_hulls, extents
from tilseg.window import Size, Window


@dataclass(frozen=True, slots=True)
class Sums:
    """Columns over n components (or regions); all places are pixels of the whole mask.

    classes: (n,) int64. first: (n,) int64, row * mask columns + column of the first pixel.
    bbox: (n, 4) int64, first row, first column, last row + 1, last column + 1.
    moments: (n, 6) about the bbox's corner, see `moments.MOMENTS`.
    windows: (n, 16), pixels: (n, 10) counts of neighbourhoods, see `perimeter`.
    bands: (n, bands, 2), extrema: (n, bands, 2), see `intensity.sum_bands`.
    world: (n, 0 or 1) float64, area in world units where pixels differ.
    hull: rows with hull vertices, `region` being the row of this table; or None.
    """

    classes: NDArray[np.int64]
    first: NDArray[np.int64]
    bbox: NDArray[np.int64]
    moments: NDArray[Any]
    windows: NDArray[Any]
    pixels: NDArray[Any]
    bands: NDArray[Any]
    extrema: NDArray[np.float64]
    world: NDArray[np.float64]
    hull: Extents | None

    def __len__(self) -> int:
        return len(self.classes)

    def take(self, chosen: NDArray[np.int64]) -> Sums:
        """The rows `chosen`, in that order, none twice."""
        columns = {name: getattr(self, name)[chosen] for name in _COLUMNS}
        return Sums(**columns, hull=self._take_hull(chosen))

    def _take_hull(self, chosen: NDArray[np.int64]) -> Extents | None:
        if self.hull is None:
            return None
        renumber = np.full(len(self), -1, dtype=np.int64)
        renumber[chosen] = np.arange(len(chosen))
        rows = self.hull.take(renumber[self.hull.region] >= 0)
        return rows._replace(region=renumber[rows.region])


_COLUMNS = tuple(field.name for field in fields(Sums) if field.name != "hull")


def block_sums(
    parts: Components,
    window: Window,
    shape: Size,
    image: NDArray[Any] | None,
    weights: NDArray[np.float64] | None,
    *,
    with_hull: bool,
) -> Sums:
    """Sums of the components of the block `window` of a mask of `shape`, windows and pixels 0.

    image, weights: see `measure_block`.
    """
    rows, cols, length = parts.rows, parts.cols, parts.stop - parts.start
    lead, count = first_index(parts.member), len(parts)
    bbox = _boxes(parts, rows, cols, length, lead)
    corner = (-bbox[parts.member, 0], -bbox[parts.member, 1])
    bands, extrema = np.zeros((count, 0, 2), dtype=np.int64), np.zeros((count, 0, 2))
    if image is not None:
        bands, extrema = intensity.sum_bands(parts, image)
    return Sums(
        classes=parts.classes,
        first=(rows[lead] + window.row) * shape.cols + cols[lead] + window.col,
        bbox=bbox + np.array([window.row, window.col] * 2, dtype=np.int64),
        moments=moments.run_moments(
            parts.member, count, rows + corner[0], cols + corner[1], length
        ),
        windows=np.zeros((count, perimeter.WINDOW_CODES), dtype=np.int64),
        pixels=np.zeros((count, len(perimeter.PIXEL_CODES)), dtype=np.int64),
        bands=bands,
        extrema=extrema,
        world=_world(parts, weights, rows, length),
        hull=_placed(block_hulls(parts), window) if with_hull else None,
    )


def _boxes(
    parts: Components,
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    length: NDArray[np.int64],
    lead: NDArray[np.int64],
) -> NDArray[np.int64]:
    bottom, right = np.zeros((2, len(parts)), dtype=np.int64)
    left = np.full(len(parts), parts.size.cols)
    # Runs come in raster order: the last one written is the lowest.
    bottom[parts.member] = rows + 1
    np.minimum.at(left, parts.member, cols)
    np.maximum.at(right, parts.member, cols + length)
    return np.stack([rows[lead], left, bottom, right], axis=1)


def _placed(rows: Extents, window: Window) -> Extents:
    return Extents(
        rows.region, rows.row + window.row, rows.low + window.col, rows.high + window.col
    )


def _world(
    parts: Components,
    weights: NDArray[np.float64] | None,
    rows: NDArray[np.int64],
    length: NDArray[np.int64],
) -> NDArray[np.float64]:
    if weights is None:
        return np.zeros((len(parts), 0))
    if weights.ndim == 1:
        terms = weights[rows] * length
    else:
        terms = parts.reduce(np.add, weights.ravel().take(parts.pixels))
    total = np.bincount(parts.member, weights=terms, minlength=len(parts)).astype(np.float64)
    return total[:, None]


def concatenate(parts: list[Sums]) -> Sums:
    """All rows of all parts, in order; there is at least one part."""
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
    if parts[0].hull is None:
        return Sums(**columns, hull=None)
    shifted, at = [], 0
    for part in parts:
        assert part.hull is not None
        shifted.append(part.hull._replace(region=part.hull.region + at))
        at += len(part)
    joined = Extents(*(np.concatenate(values) for values in zip(*shifted, strict=True)))
    return Sums(**columns, hull=joined)


def add(parts: Sums, group: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Sums]]:
    """Rows of the unions: `group` (n,) names the union, 0..max, that each row goes into.

    Yields up to two tables with the unions their rows are: first those whose sums fit 64 bits,
    then those that might not, in Python integers.
    """
    order = np.argsort(group, kind="stable")
    parts, size = parts.take(order), np.bincount(group)
    begin = np.cumsum(size) - size
    area = np.add.reduceat(parts.moments[:, 0], begin)
    box = _join_boxes(parts.bbox, begin)
    side = np.maximum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]).astype(np.float64)
    large = (area >= 2**30) | (area * side * side >= 2.0**62)
    for chosen, dtype in ((~large, np.dtype(np.int64)), (large, np.dtype(object))):
        if chosen.any():
            rows = parts.take(np.flatnonzero(np.repeat(chosen, size)))
            yield np.flatnonzero(chosen), _add(rows, size[chosen], dtype)


def _add(parts: Sums, size: NDArray[np.int64], dtype: np.dtype[Any]) -> Sums:
    """Unions of the first size[0] rows, the next size[1], ...; integers summed as `dtype`."""
    begin, group = np.cumsum(size) - size, np.repeat(np.arange(len(size)), size)
    box = _join_boxes(parts.bbox, begin)
    apart = (parts.bbox - box[group]).astype(dtype)
    moved = moments.shift(parts.moments.astype(dtype), apart[:, 0], apart[:, 1])
    area = parts.moments[:, 0]
    if parts.bands.dtype == np.float64:
        bands = intensity.merge_floats(parts.bands, area, begin)
    else:
        bands = np.add.reduceat(parts.bands.astype(dtype), begin)
    least = np.minimum.reduceat(parts.extrema[:, :, 0], begin)
    most = np.maximum.reduceat(parts.extrema[:, :, 1], begin)
    rows = parts.hull
    if rows is not None:
        rows = extents(group[rows.region], rows.row, rows.low, rows.high).hull()
    return Sums(
        classes=parts.classes[begin],
        first=np.minimum.reduceat(parts.first, begin),
        bbox=box,
        moments=np.add.reduceat(moved, begin),
        windows=np.add.reduceat(parts.windows, begin),
        pixels=np.add.reduceat(parts.pixels, begin),
        bands=bands,
        extrema=np.stack([least, most], axis=2),
        world=_join_world(parts.world, begin),
        hull=rows,
    )


def _join_boxes(boxes: NDArray[np.int64], begin: NDArray[np.int64]) -> NDArray[np.int64]:
    first = np.minimum.reduceat(boxes[:, :2], begin)
    last = np.maximum.reduceat(boxes[:, 2:], begin)
    return np.concatenate([first, last], axis=1)


def _join_world(world: NDArray[np.float64], begin: NDArray[np.int64]) -> NDArray[np.float64]:
    if world.shape[1] == 0:
        return world[: len(begin)]
    stop = np.append(begin[1:], len(world))
    spans = zip(begin.tolist(), stop.tolist(), strict=True)
    return np.array([[intensity.exact_sum(world[first:last, 0])] for first, last in spans])
