"""Each change of intensities does what its name says, and no more."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.exposure import adjust_gamma

from tilseg.training.intensities import change_intensity
from tilseg.training.settings import Augmentation

PIXELS = np.random.default_rng(1).normal(0, 1, (41, 37, 3)).astype(np.float32)
SEEDS = range(30)


def _changed(seed, pixels=PIXELS, **strengths):
    augmentation = Augmentation(**{"contrast": 0, "brightness": 0, **strengths})
    return change_intensity(pixels, augmentation, np.random.default_rng(seed))


def _lines(found):
    """Slope and offset of each band as a function of what it was, and how far it is from a line."""
    fits = [np.polyfit(PIXELS[..., b].ravel(), found[..., b].ravel(), 1) for b in range(3)]
    slope, offset = np.transpose(fits)
    return slope, offset, np.abs(found - (PIXELS * slope + offset)).max()


def test_nothing_asked_for_changes_nothing():
    np.testing.assert_array_equal(_changed(0), PIXELS)


def test_contrast_is_a_factor_of_all_bands_and_half_as_much_of_each():
    slopes = []
    for seed in SEEDS:
        slope, offset, rest = _lines(_changed(seed, contrast=0.3))
        assert rest < 1e-5
        assert np.abs(offset).max() < 1e-5
        slopes.append(np.log(slope))
    assert np.abs(slopes).max() <= 0.45
    assert np.ptp(slopes, axis=1).max() <= 0.3 + 1e-5
    assert np.ptp(np.mean(slopes, axis=1)) > 0.3


def test_brightness_is_added():
    offsets = []
    for seed in SEEDS:
        slope, offset, rest = _lines(_changed(seed, brightness=0.4))
        assert rest < 1e-5
        np.testing.assert_allclose(slope, 1, atol=1e-5)
        offsets.append(offset)
    assert np.abs(offsets).max() <= 0.6
    assert np.ptp(offsets, axis=1).max() <= 0.4 + 1e-5
    assert np.ptp(np.mean(offsets, axis=1)) > 0.4


def test_gamma_is_scikit_images_between_the_darkest_and_the_lightest():
    low, high = PIXELS.min(), PIXELS.max()
    unit = (PIXELS.astype(np.float64) - low) / (high - low)
    middle = np.unravel_index(np.argmin(np.abs(unit - 0.5)), unit.shape)
    exponents = []
    for seed in SEEDS:
        found = (_changed(seed, gamma=0.5) - low) / (high - low)
        exponents.append(np.log(found[middle]) / np.log(unit[middle]))
        np.testing.assert_allclose(found, adjust_gamma(unit, exponents[-1]), atol=1e-5)
    assert np.exp(-0.5) <= min(exponents) < 0.9
    assert 1.1 < max(exponents) <= np.exp(0.5) + 1e-5


def test_mixing_leaves_grey_grey():
    grey = np.repeat(PIXELS[..., :1], 3, axis=2)
    for seed in SEEDS:
        np.testing.assert_allclose(_changed(seed, grey, mix=0.5), grey, atol=1e-5)
    assert np.abs(_changed(0, mix=0.5) - PIXELS).max() > 0.1


def test_blur_spreads_a_point_over_its_deviation():
    point = np.zeros((41, 37, 1), np.float32)
    point[20, 18] = 1
    places = np.arange(41) - 20
    spread = []
    for seed in SEEDS:
        found = _changed(seed, point, blur=2.0)[..., 0]
        assert found.sum() == pytest.approx(1, abs=1e-5)
        spread.append(float((found.sum(axis=1) * places**2).sum()))
    blurred = [each for each in spread if each > 0.02]
    assert 0.1 < len(blurred) / len(spread) < 0.6  # a third of the patches
    assert 1 < max(blurred) <= 2.0**2


def test_noise_has_its_deviation():
    deviations = []
    for seed in SEEDS:
        added = _changed(seed, noise=0.5) - PIXELS
        assert abs(added.mean()) < 0.05
        deviations.append(added.std())
    noisy = [each for each in deviations if each > 0]
    assert 0.1 < len(noisy) / len(deviations) < 0.6
    assert 0.2 < max(noisy) <= 0.5 * 1.05
