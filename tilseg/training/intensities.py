"""Random changes of the intensities of a training patch, which leave its pixels where they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from tilseg.training.settings import Augmentation

Pixels = NDArray[np.float32]


def change_intensity(
    pixels: Pixels, augmentation: Augmentation, rng: np.random.Generator
) -> Pixels:
    """New intensities for normalised (rows, cols, bands) pixels; no pixel moves."""
    bands = pixels.shape[2]
    if augmentation.mix:
        pixels = pixels @ _band_mixer(bands, augmentation.mix, rng)
    if augmentation.gamma:
        pixels = _curve(pixels, float(np.exp(_swing(augmentation.gamma, rng)[0])))
    contrast, brightness = augmentation.contrast, augmentation.brightness
    gain = _swing(contrast, rng) + _swing(contrast / 2, rng, bands)
    shift = _swing(brightness, rng) + _swing(brightness / 2, rng, bands)
    pixels = _scaled(pixels, np.exp(gain), shift)
    if augmentation.blur and rng.random() < 1 / 3:
        sigma = rng.uniform(0, augmentation.blur)
        pixels = gaussian_filter(pixels, (sigma, sigma, 0), mode="mirror", truncate=3)
    if augmentation.noise and rng.random() < 1 / 3:
        sigma = rng.uniform(0, augmentation.noise)
        pixels = pixels + sigma * rng.standard_normal(pixels.shape, dtype=np.float32)
    return pixels.astype(np.float32, copy=False)


def _scaled(pixels: Pixels, factors: NDArray[np.float64], added: NDArray[np.float64]) -> Pixels:
    # Whole rows at a time: an innermost axis of a few bands takes several times as long.
    rows, cols, bands = pixels.shape
    flat = pixels.reshape(rows, cols * bands) * np.tile(factors.astype(np.float32), cols)
    flat += np.tile(added.astype(np.float32), cols)
    return flat.reshape(pixels.shape)


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
