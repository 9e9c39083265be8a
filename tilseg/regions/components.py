"""Connected components of one block, as runs of equal pixels along its rows.

Everything a region needs is then a sum over runs, of which a mask has far fewer than pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from tilseg.errors import InputError
from tilseg.window import Size

Connectivity = Literal[1, 2]


@dataclass(frozen=True, slots=True)
class Rules:
    """What forms a region.

    nodata: value of pixels without a class, or None. background: the class that forms no
    regions, or None when every class does. connectivity: 2 joins pixels over edges and corners
    (8 neighbours), 1 over edges only, as in `skimage.measure.label`.
    """

    nodata: int | None = 255
    background: int | None = 0
    connectivity: Connectivity = 2

    def __post_init__(self) -> None:
        if self.connectivity not in (1, 2):
            raise ValueError(f"connectivity is 1 or 2, not {self.connectivity}")


@dataclass(frozen=True, slots=True)
class Components:
    """The components of a block, numbered from 0 in raster order of their first pixels.

    kinds: the block inside a frame of one pixel, flattened; 0 where there is no region, else
        the class (plus 1 when class 0 forms regions too).
    stride: from one row of `kinds` to the next, cols + 2.
    start, stop, member: (runs,) int64; a run is kinds[start:stop], all of component `member`;
        runs are in raster order.
    classes: (components,) int64.
    """

    size: Size
    kinds: NDArray[Any]
    stride: int
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    member: NDArray[np.int64]
    classes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row of each run in the block."""
        return self.start // self.stride - 1

    @property
    def cols(self) -> NDArray[np.int64]:
        """First column of each run in the block."""
        return self.start % self.stride - 1

    @property
    def pixels(self) -> NDArray[np.int64]:
        """(pixels,) places in the flattened block, without frame, of all pixels in regions.

        The first stop[0] - start[0] of them are the first run, and so on.
        """
        inside = self.kinds.reshape(-1, self.stride)[1:-1, 1:-1]
        return np.flatnonzero(inside)

    def reduce(self, ufunc: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
        """`ufunc` reduced over each run; values: (pixels,), one for each of `pixels`."""
        length = self.stop - self.start
        return np.asarray(ufunc.reduceat(values, np.cumsum(length) - length))

    def paint(self, values: NDArray[Any]) -> NDArray[Any]:
        """`kinds` with each pixel replaced by the value of its component, 0 where it has none.

        values: (components,); returns the shape of `kinds` in the dtype of `values`.
        """
        bounds = np.stack([self.start, self.stop], axis=1).ravel()
        lengths = np.diff(bounds, prepend=0, append=self.kinds.size)
        painted = np.zeros(len(lengths), dtype=values.dtype)
        painted[1::2] = values[self.member]
        return np.repeat(painted, lengths)


def components(labels: NDArray[Any], rules: Rules) -> Components:
    """Label one block: equal to `skimage.measure.label` on it, nodata and background apart.

    labels: (rows, cols) integers, none negative.
    Raises InputError E-MASK-DTYPE or E-MASK-NEGATIVE.
    """
    size = Size(*labels.shape)
    stride = size.cols + 2
    kinds, shift = _kinds(labels, rules)
    change = np.flatnonzero(kinds[1:] != kinds[:-1]) + 1
    values = kinds[change]
    runs = np.flatnonzero(values)
    # The frame is 0, so every run is followed by a change.
    start, stop, values = change[runs], change[runs + 1], values[runs].astype(np.int64)
    member = _link(start, stop, values, stride, rules.connectivity)
    first = first_index(member)
    return Components(size, kinds, stride, start, stop, member, values[first] - shift)


def _kinds(labels: NDArray[Any], rules: Rules) -> tuple[NDArray[Any], int]:
    """`Components.kinds` of a block, and what was added to each class."""
    if labels.dtype.kind not in "bui":
        raise InputError("E-MASK-DTYPE", dtype=labels.dtype)
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise InputError("E-MASK-NEGATIVE", value=labels.min())
    shift = 0 if rules.background == 0 else 1
    dtype = np.dtype(np.uint8) if labels.dtype.kind == "b" else labels.dtype
    if shift and rules.nodata != np.iinfo(dtype).max:
        dtype = np.promote_types(dtype, np.min_scalar_type(int(np.iinfo(dtype).max) + 1))
    framed = np.zeros((labels.shape[0] + 2, labels.shape[1] + 2), dtype=dtype)
    inside = framed[1:-1, 1:-1]
    np.add(labels, dtype.type(shift), out=inside, casting="unsafe")
    for value in (rules.nodata, rules.background):
        if value is not None and (value or shift):
            inside[labels == value] = 0
    return framed.ravel(), shift


def _link(
    start: NDArray[np.int64],
    stop: NDArray[np.int64],
    values: NDArray[np.int64],
    stride: int,
    connectivity: Connectivity,
) -> NDArray[np.int64]:
    """Component of each run, numbered in raster order of first runs."""
    reach = connectivity - 1
    # Runs of the next row that overlap run i are a range of runs: both ends are sorted.
    low = np.searchsorted(stop, start + stride - reach, side="right")
    high = np.searchsorted(start, stop + stride + reach, side="left")
    count = np.maximum(high - low, 0)
    upper = np.repeat(np.arange(len(start)), count)
    lower = np.arange(len(upper)) - np.repeat(np.cumsum(count) - count - low, count)
    same = values[upper] == values[lower]
    return union(upper[same], lower[same], len(start))


def union(a: NDArray[np.int64], b: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Groups of 0..count-1 that the pairs (a, b) join, numbered by their smallest members."""
    graph = sparse.coo_array((np.ones(len(a), dtype=np.int8), (a, b)), shape=(count, count))
    group: NDArray[np.int32] = csgraph.connected_components(graph, directed=False)[1]
    first = first_index(group)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[group]


def first_index(group: NDArray[Any]) -> NDArray[np.int64]:
    """Index of the first occurrence of each of the numbers 0..max in `group`."""
    first = np.zeros(int(group.max()) + 1 if len(group) else 0, dtype=np.int64)
    first[group[::-1]] = np.arange(len(group) - 1, -1, -1)
    return first
