"""Counts of 2 x 2 and 3 x 3 neighbourhoods, from which perimeters and Euler numbers follow.

A window counts for every region it meets, with a code that says where in it that region lies:
as in `skimage.measure.perimeter_crofton`, `euler_number` (2 x 2, 16 codes) and `perimeter`
(3 x 3 about the border pixels, the ten codes that have a weight). Counts of windows add up over
blocks, whatever the blocks are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tilseg.regions.components import Connectivity

WINDOW_CODES = 16
# The codes with a weight in Benkrid and Crookes, "Design and FPGA implementation of a
# perimeter estimator", and their weights.
PIXEL_CODES = (5, 7, 13, 15, 17, 21, 23, 25, 27, 33)
_WEIGHTS = {
    **dict.fromkeys((5, 7, 15, 17, 25, 27), 1.0),
    **dict.fromkeys((21, 33), np.sqrt(2.0)),
    **dict.fromkeys((13, 23), (1 + np.sqrt(2.0)) / 2),
}
PIXEL_WEIGHTS = np.array([_WEIGHTS[code] for code in PIXEL_CODES])
_SLOT = np.full(50, len(PIXEL_CODES), dtype=np.int64)
_SLOT[list(PIXEL_CODES)] = np.arange(len(PIXEL_CODES))

# Crofton's formula in four directions and the Euler number of 8-connected sets, by code: bit 8
# is the upper left pixel of the window, 2 the upper right, 4 the lower left, 1 the lower right
# (S. Rivollier, PhD thesis, 2010; Ohser, Nagel and Schladitz, LNP 600, 2002).
_Q = np.pi / 4
_D = np.pi / (4 * np.sqrt(2))
_A = np.pi / 4 * (1 + 1 / np.sqrt(2))
_B = np.pi / (2 * np.sqrt(2))
CROFTON = np.array([0, _A, _D, _B, 0, _A, 0, _D, _Q, 2 * _Q, _D, _D, _Q, 2 * _Q, 0, 0])
EULER = np.array([0, 0, 0, 0, 0, 0, -1, 0, 1, 0, 0, 0, 0, 0, -1, 0], dtype=np.int64)


class Raster(NamedTuple):
    """A block or seam inside a frame of one 0 pixel, flattened row by row.

    kinds: 0 where there is no region, else a number per class. ids: component of each pixel,
    from 1. stride: from one row to the next.
    """

    kinds: NDArray[Any]
    ids: NDArray[np.int64]
    stride: int


def framed(kinds: NDArray[Any], ids: NDArray[np.int64]) -> Raster:
    """A raster from rows and columns of kinds and components."""
    return Raster(np.pad(kinds, 1).ravel(), np.pad(ids, 1).ravel(), kinds.shape[1] + 2)


class Bounds(NamedTuple):
    """Rows row..row_stop-1 and columns col..col_stop-1, counted with the frame."""

    row: int
    row_stop: int
    col: int
    col_stop: int

    def within(self, index: NDArray[np.int64], stride: int) -> NDArray[np.bool_]:
        rows, cols = np.divmod(index, stride)
        return (
            (rows >= self.row)
            & (rows < self.row_stop)
            & (cols >= self.col)
            & (cols < self.col_stop)
        )


@dataclass(frozen=True, slots=True)
class Counts:
    """Neighbourhoods met: component and code of each, and what only the merge can decide.

    ids, codes: (n,) int64; window codes are 0..15, pixel codes positions in `PIXEL_CODES`.
    open: (m, k) int64, neighbourhoods of pixels of one class that touch at a corner, belong
        to different components so far and may turn out to be one region. For windows k = 4:
        id and code of each of the two. For pixels k = 6: id, the code without the pixels in
        doubt, and the ids of the doubtful ones among its four diagonal neighbours, or 0.
    Only connectivity 1 leaves anything open.
    """

    ids: NDArray[np.int64]
    codes: NDArray[np.int64]
    open: NDArray[np.int64]


def count_windows(
    raster: Raster, bounds: Bounds, connectivity: Connectivity, open_ids: NDArray[np.bool_] | None
) -> Counts:
    """Codes of the 2 x 2 windows whose upper left pixels lie in `bounds`.

    open_ids: by id, whether that component may still be joined to another; None for all.
    """
    k, ids, stride = raster
    across, down = k[1:] != k[:-1], k[stride:] != k[:-stride]
    at = np.flatnonzero(across[:-stride] | across[stride:] | down[:-1])
    at = at[bounds.within(at, stride)]
    a, b, c, d = (k[at], k[at + 1], k[at + stride], k[at + stride + 1])
    ad, bc = (a == d) & (a != 0), (b == c) & (b != 0)
    doubt = np.zeros((0, 4), dtype=np.int64)
    if connectivity == 1:
        falling = _doubtful(ad & (a != b) & (a != c), ids, at, at + stride + 1)
        rising = _doubtful(bc & (b != a) & (b != d), ids, at + 1, at + stride)
        doubt = np.concatenate(
            [
                _open_windows(ids, at[falling], at[falling] + stride + 1, 8, 1),
                _open_windows(ids, at[rising] + 1, at[rising] + stride, 2, 4),
            ]
        )
        if open_ids is not None:
            doubt = doubt[open_ids[doubt[:, 0]] & open_ids[doubt[:, 2]]]
        ad, bc = ad & ~falling, bc & ~rising
    ab, ac, bd, cd = a == b, a == c, b == d, c == d
    # Each region in a window is counted at its first pixel there.
    leads = (
        (at, a != 0, 8 + 2 * ab + 4 * ac + ad),
        (at + 1, (b != 0) & ~ab, 2 + 4 * bc + bd),
        (at + stride, (c != 0) & ~ac & ~bc, 4 + cd),
        (at + stride + 1, (d != 0) & ~ad & ~bd & ~cd, np.ones(len(at), dtype=np.int64)),
    )
    return Counts(
        np.concatenate([ids[where[chosen]] for where, chosen, _ in leads]).astype(np.int64),
        np.concatenate([code[chosen] for _, chosen, code in leads]).astype(np.int64),
        doubt,
    )


def _doubtful(
    saddle: NDArray[np.bool_],
    ids: NDArray[np.int64],
    one: NDArray[np.int64],
    other: NDArray[np.int64],
) -> NDArray[np.bool_]:
    return np.asarray(saddle & (ids[one] != ids[other]))


def _open_windows(
    ids: NDArray[np.int64],
    one: NDArray[np.int64],
    other: NDArray[np.int64],
    code: int,
    other_code: int,
) -> NDArray[np.int64]:
    columns = (ids[one], np.full(len(one), code), ids[other], np.full(len(one), other_code))
    return np.stack(columns, axis=1).astype(np.int64)


def count_pixels(
    raster: Raster, bounds: Bounds, connectivity: Connectivity, open_ids: NDArray[np.bool_] | None
) -> Counts:
    """Codes of the 3 x 3 windows about the border pixels that lie in `bounds`.

    A border pixel has a 4-neighbour that is not of its region. With `open_ids`, the pixels of
    components that can't be joined to any other count wherever they are.
    """
    border = _border(raster)
    at = np.flatnonzero(border)
    mine = bounds.within(at, raster.stride)
    if open_ids is not None:
        mine |= ~open_ids[raster.ids[at]]
    at = at[mine]
    ids, kind, stride = raster.ids[at].astype(np.int64), border[at], raster.stride
    code = np.ones(len(at), dtype=np.uint8)
    for step in (-stride, -1, 1, stride):
        code += np.uint8(2) * (border[at + step] == kind)
    doubt = np.zeros((4, len(at)), dtype=np.int64)
    for corner, step in enumerate((-stride - 1, -stride + 1, stride - 1, stride + 1)):
        same = border[at + step] == kind
        if connectivity == 1:
            other = raster.ids[at + step]
            apart = same & (other != ids)
            same &= ~apart
            if open_ids is not None:
                apart &= open_ids[ids] & open_ids[other]
            doubt[corner, apart] = other[apart]
        code += np.uint8(10) * same
    waits = doubt.any(axis=0)
    slots = _SLOT[code]
    sure = ~waits & (slots < len(PIXEL_CODES))
    left = np.concatenate([ids[None, waits], code[None, waits], doubt[:, waits]]).T
    return Counts(ids[sure], slots[sure], left.astype(np.int64))


def _border(raster: Raster) -> NDArray[Any]:
    """The kind where a border pixel is, else 0: one look-up then tells both."""
    k, stride = raster.kinds, raster.stride
    across, down = k[1:] != k[:-1], k[stride:] != k[:-stride]
    inner = slice(stride, len(k) - stride)
    edge = across[stride - 1 : -stride] | across[inner] | down[:-stride] | down[stride:]
    border = np.zeros_like(k)
    border[inner] = k[inner] * edge
    return border


def settle_windows(
    doubt: NDArray[np.int64], region: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """What open windows add to the counts: ids, codes and +1 or -1.

    region: by id, from 1.
    """
    joined = doubt[region[doubt[:, 0]] == region[doubt[:, 2]]]
    one, code, other, other_code = joined.T
    sign = np.ones(len(joined), dtype=np.int64)
    # They were counted as two single pixels; they are one diagonal pair.
    return (
        np.concatenate([one, other, one]),
        np.concatenate([code, other_code, code + other_code]),
        np.concatenate([-sign, -sign, sign]),
    )


def settle_pixels(
    doubt: NDArray[np.int64], region: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The same of open pixels; id 0 is none."""
    same = (doubt[:, 2:] != 0) & (region[doubt[:, 2:]] == region[doubt[:, :1]])
    slots = _SLOT[doubt[:, 1] + 10 * same.sum(axis=1)]
    sure = slots < len(PIXEL_CODES)
    return doubt[sure, 0], slots[sure], np.ones(np.count_nonzero(sure), dtype=np.int64)
