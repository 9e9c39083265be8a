"""Patches turned, flipped, zoomed and bent: what moves pixels, and their labels with them.

Pixels are interpolated bilinearly, labels are those of the nearest pixel. Where a pixel comes from
outside the image, both are mirrored: windows are read from the mirrored image, large enough.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tilseg.training.settings import Augmentation

Value = TypeVar("Value", bound=np.generic)

_GRID = 3  # vectors a side, as in the paper


@dataclass(frozen=True)
class Deformation:
    """How a patch of `side` pixels is cut from an image.

    zoom: the factor by which objects grow. shifts: (2, side, side) float32, how many pixels of
    the zoomed image down and to the right of its own place a pixel comes from; None for nothing.
    symmetry: 0 to 7, see `dihedral`.
    """

    side: int
    zoom: float = 1.0
    shifts: Tensor | None = None
    symmetry: int = 0

    @property
    def window(self) -> int:
        """Side of the window that is read for it, in pixels of the image."""
        return self.side if self.leaves_pixels else max(1, round(self._zoomed / self.zoom))

    @property
    def leaves_pixels(self) -> bool:
        """Whether every pixel of the patch is one of the image, moved at most by a symmetry."""
        return self.zoom == 1 and self.shifts is None

    @property
    def _zoomed(self) -> int:
        return self.side + 2 * self._margin

    @functools.cached_property
    def _margin(self) -> int:
        return 0 if self.shifts is None else math.ceil(float(self.shifts.abs().max()))

    def pixels(self, window: NDArray[np.float32]) -> NDArray[np.float32]:
        """The patch (side, side, bands) of a window (window, window, bands)."""
        if not self.leaves_pixels:
            window = _array(self._bent(_zoomed(_tensor(window), self._zoomed, "bilinear")))
        return dihedral(window, self.symmetry)

    def labels(self, window: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The labels (side, side) of a window (window, window)."""
        if not self.leaves_pixels:
            zoomed = _zoomed(_tensor(window[..., None]), self._zoomed, "nearest-exact")
            window = _array(self._bent(zoomed, "nearest"))[..., 0].astype(np.uint8)
        return dihedral(window, self.symmetry)

    def _bent(self, zoomed: Tensor, mode: str = "bilinear") -> Tensor:
        if self.shifts is None:
            return zoomed
        places = torch.arange(self.side, dtype=torch.float32) + self._margin
        rows, cols = places[:, None] + self.shifts[0], places + self.shifts[1]
        # The library counts from -1 to 1, columns before rows.
        grid = torch.stack([cols, rows], dim=-1) * (2 / (self._zoomed - 1)) - 1
        return F.grid_sample(zoomed, grid[None], mode, align_corners=True)


def draw_deformation(
    augmentation: Augmentation, side: int, rng: np.random.Generator
) -> Deformation:
    """A random one for patches of `side` pixels."""
    low, high = augmentation.zoom
    zoom = 1.0 if low == high == 1 else float(np.exp(rng.uniform(np.log(low), np.log(high))))
    shifts = None
    if augmentation.elastic:
        shifts = interpolated(rng.normal(0, augmentation.elastic, (2, _GRID, _GRID)), side)
    symmetry = int(rng.integers(8)) if augmentation.flips else 0
    return Deformation(side, zoom, shifts, symmetry)


def interpolated(vectors: NDArray[np.float64], side: int) -> Tensor:
    """Shifts (2, side, side) float32 between vectors on a coarse grid (2, n, n) with one in each
    corner: the elastic deformation of Ronneberger et al. 2015 (arXiv:1505.04597, section 3.1).

    Bicubic is the cubic convolution of Keys 1981 (doi:10.1109/TASSP.1981.1163711), a = -0.75.
    """
    count = vectors.shape[-1]
    unit = torch.eye(count)[None, None]
    # It is separable: what each vector weighs along one axis, then along both.
    weights = F.interpolate(unit, (side, count), mode="bicubic", align_corners=True)[0, 0]
    return weights @ torch.from_numpy(vectors.astype(np.float32)) @ weights.T


def dihedral(patch: NDArray[Value], symmetry: int) -> NDArray[Value]:
    """One of the 8 symmetries of the square, on (rows, cols, ...): turns, then a flip."""
    turned = np.rot90(patch, symmetry % 4)
    return turned[:, ::-1] if symmetry >= 4 else turned


def _zoomed(patch: Tensor, side: int, mode: str) -> Tensor:
    if patch.shape[-1] == side:
        return patch
    shrinks = patch.shape[-1] > side
    smooth = mode == "bilinear" and shrinks
    return F.interpolate(patch, (side, side), mode=mode, antialias=smooth)


def _tensor(patch: NDArray[np.generic]) -> Tensor:
    """(rows, cols, bands) as (1, bands, rows, cols) float32."""
    return torch.from_numpy(np.ascontiguousarray(patch, np.float32)).permute(2, 0, 1)[None]


def _array(patch: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = patch[0].permute(1, 2, 0).contiguous().numpy()
    return array
