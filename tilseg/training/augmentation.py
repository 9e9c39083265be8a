"""Random changes of a training patch that leave its classes as they are.

Every draw takes a numpy generator and every strength is a number of `Augmentation`.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tilseg.training.settings import Augmentation

Pixels = NDArray[np.float32]
Value = TypeVar("Value", bound=np.generic)


def draw_zoom(augmentation: Augmentation, rng: np.random.Generator) -> float:
    """A factor by which objects of a patch grow; exactly 1 where no zoom is asked for."""
    low, high = augmentation.zoom
    return 1.0 if low == high == 1 else float(np.exp(rng.uniform(np.log(low), np.log(high))))


def dihedral(patch: NDArray[Value], symmetry: int) -> NDArray[Value]:
    """One of the 8 symmetries of the square, on (rows, cols, ...): turns, then a flip."""
    turned = np.rot90(patch, symmetry % 4)
    return turned[:, ::-1] if symmetry >= 4 else turned


def change_intensity(
    pixels: Pixels, augmentation: Augmentation, rng: np.random.Generator
) -> Pixels:
    """New intensities for normalised (rows, cols, bands) pixels; no pixel moves."""
    bands = pixels.shape[2]
    if augmentation.mix:
        pixels = pixels @ _band_mixer(bands, augmentation.mix, rng)
    if augmentation.gamma:
        pixels = _curve(pixels, float(np.exp(_swing(augmentation.gamma, rng)[0])))
    gain = _swing(augmentation.gain, rng) + _swing(augmentation.gain / 2, rng, bands)
    shift = _swing(augmentation.shift, rng) + _swing(augmentation.shift / 2, rng, bands)
    pixels = pixels * np.exp(gain).astype(np.float32) + shift.astype(np.float32)
    if augmentation.blur and rng.random() < 1 / 3:
        sigma = rng.uniform(0, augmentation.blur)
        pixels = gaussian_filter(pixels, (sigma, sigma, 0), mode="mirror", truncate=3)
    if augmentation.noise and rng.random() < 1 / 3:
        sigma = rng.uniform(0, augmentation.noise)
        pixels = pixels + sigma * rng.standard_normal(pixels.shape, dtype=np.float32)
    return pixels.astype(np.float32, copy=False)


def _swing(strength: float, rng: np.random.Generator, count: int = 1) -> NDArray[np.float64]:
    return rng.uniform(-strength, strength, count)


def _band_mixer(bands: int, strength: float, rng: np.random.Generator) -> Pixels:
    """(bands, bands): columns are new bands, each its old self mixed with an average of all."""
    share = rng.uniform(0, strength)
    average = rng.dirichlet(np.ones(bands), size=bands).T
    mixer: Pixels = ((1 - share) * np.eye(bands) + share * average).astype(np.float32)
    return mixer


def _curve(pixels: Pixels, exponent: float) -> Pixels:
    """Brightness bent by a power law that leaves the darkest and lightest value in place."""
    low, high = pixels.min(), pixels.max()
    if low == high:
        return pixels
    bent: Pixels = ((pixels - low) / (high - low)) ** np.float32(exponent) * (high - low) + low
    return bent
