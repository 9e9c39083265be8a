"""Bent patches against numpy's mirror and scipy's interpolation; other stains against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from skimage.color import hed2rgb, rgb2hed
from training_shapes import sample_of, shapes

from tilseg.errors import UsageError
from tilseg.receptive_field import ReceptiveField
from tilseg.training.centres import Centres
from tilseg.training.deformation import Deformation, draw_deformation, interpolated
from tilseg.training.patches import PatchReader
from tilseg.training.settings import AUGMENTATIONS, Augmentation
from tilseg.training.stains import jitter_stains, with_stains
from tilseg.window import Size

PLAIN = Augmentation(flips=False, contrast=0, brightness=0)


def _keys(distance):
    """The kernel of cubic convolution with a = -0.75."""
    d, a = np.abs(distance), -0.75
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


@pytest.mark.parametrize("side", [2, 7, 61])
def test_shifts_between_vectors_are_bicubic(side):
    vectors = np.random.default_rng(side).normal(0, 10, (2, 3, 3))
    places = np.linspace(0, 2, side)
    weights = np.zeros((side, 3))
    for tap in range(-2, 5):  # beyond the grid its edge repeats
        weights[:, np.clip(tap, 0, 2)] += _keys(places - tap)
    expected = np.einsum("yi,cij,xj->cyx", weights, vectors, weights)
    np.testing.assert_allclose(interpolated(vectors, side).numpy(), expected, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 47),
    cols=st.integers(1, 47),
    place=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    patch=st.integers(1, 23),
    strength=st.sampled_from([0.3, 4.0, 10.0]),
    seed=st.integers(0, 2**16),
)
def test_a_bent_patch_is_the_mirrored_image_where_its_pixels_come_from(
    rows, cols, place, patch, strength, seed
):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 255, (rows, cols, 2), dtype=np.uint8)
    labels = rng.integers(0, 2, (rows, cols), dtype=np.uint8)
    sample = sample_of(image, labels)
    reader = PatchReader(ReceptiveField(5, 4, 2), patch, PLAIN)
    shifts = interpolated(rng.normal(0, strength, (2, 3, 3)), reader.input)
    centre = Size(int(place[0] * rows), int(place[1] * cols))
    pixels, classes = reader.read(sample, centre, Deformation(reader.input, shifts=shifts))
    steps = np.arange(reader.input)
    coordinates = np.stack(np.meshgrid(steps, steps, indexing="ij")) + shifts.numpy()
    for axis, at in enumerate(centre):
        coordinates[axis] += at - reader.input // 2
    # scipy's "mirror" is numpy's "reflect"; of one pixel both mean that pixel.
    for band in range(2):
        whole = sample.normalised(image)[..., band].astype(np.float64)
        expected = map_coordinates(whole, coordinates, order=1, mode="mirror")
        np.testing.assert_allclose(pixels[..., band], expected, atol=2e-3)
    inner = slice(5, 5 + reader.output)
    kept = coordinates[:, inner, inner]
    expected = map_coordinates(labels, kept, order=0, mode="mirror")
    half_way = (np.abs(kept % 1 - 0.5) < 1e-3).any(axis=0)
    np.testing.assert_array_equal(classes[~half_way], expected[~half_way])


@pytest.mark.parametrize("seed", range(6))
def test_labels_stay_on_their_pixels_under_all_of_it(seed):
    image, labels = shapes(211, 173, 4)
    labels[:] = image > 105  # so that pixels tell the labels
    clear = np.where(labels == 1, 200, 20).astype(np.uint8)
    sample = sample_of(clear, labels)
    augmentation = Augmentation(zoom=(0.6, 1.6), elastic=8, contrast=0, brightness=0)
    reader = PatchReader(ReceptiveField(20, 4, 0), 92, augmentation)
    pixels, classes = reader.changed(sample, Size(101, 83), np.random.default_rng(seed))
    low, high = sample.normalised(np.array([[[20]], [[200]]], np.uint8)).ravel()
    agree = (pixels[20:-20, 20:-20, 0] > (low + high) / 2) == (classes == 1)
    assert agree.mean() > 0.97
    assert 0.02 < classes.mean() < 0.5


def test_vectors_have_the_deviation_that_was_asked_for():
    rng = np.random.default_rng(0)
    corners = [
        draw_deformation(Augmentation(elastic=10), 5, rng).shifts[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        for _ in range(400)
    ]
    drawn = torch.stack(corners).numpy().ravel()
    assert drawn.std() == pytest.approx(10, rel=0.05)
    assert abs(drawn.mean()) < 0.6


def test_flips_are_drawn_alike_or_not_at_all():
    rng = np.random.default_rng(0)
    drawn = [draw_deformation(AUGMENTATIONS["light"], 5, rng).symmetry for _ in range(1600)]
    assert np.bincount(drawn).tolist() == pytest.approx([200] * 8, abs=50)
    assert {draw_deformation(PLAIN, 5, rng).symmetry for _ in range(20)} == {0}


def test_a_patch_does_not_depend_on_the_others_of_its_batch():
    image, labels = shapes(61, 53, 0)
    reader = PatchReader(ReceptiveField(2, 1, 0), 17, AUGMENTATIONS["strong"])
    few, many = (
        reader.batch(Centres((sample_of(image, labels),)), n, seed=3, step=8) for n in (2, 5)
    )
    assert few[0].equal(many[0][:2])
    assert few[1].equal(many[1][:2])
    assert not many[0][0].equal(many[0][1])


def test_a_zoom_the_wrong_way_round_is_refused():
    with pytest.raises(ValueError, match="smaller"):
        Augmentation(zoom=(1.5, 0.5))


# ---- stains


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("seed", range(3))
def test_other_amounts_of_stains_are_scikit_images(dtype, seed):
    rng = np.random.default_rng(seed)
    # Mixtures of the stains, for scikit-image takes negative amounts away.
    mixed = hed2rgb(rng.uniform(0.005, 0.05, (23, 31, 3)))
    pixels = np.round(mixed * np.iinfo(dtype).max).astype(dtype)
    factors, added = rng.uniform(0.8, 1.2, 3), rng.uniform(0, 0.05, 3)
    unit = -np.log(1e-6)  # of scikit-image's amounts
    expected = hed2rgb(rgb2hed(pixels) * factors + added / unit)
    found = with_stains(pixels, factors, added) / np.iinfo(dtype).max
    # Of few levels, an amount may come out negative by rounding, which scikit-image clips.
    np.testing.assert_allclose(found, expected, atol=0.02 if dtype == np.uint8 else 2e-4)


def test_no_change_of_stains_changes_no_colour():
    every = np.arange(0, 256, 5)
    colours = np.stack(np.meshgrid(every, every, every), axis=-1).reshape(-1, 52, 3)
    found = with_stains(colours.astype(np.uint8), np.ones(3), np.zeros(3))
    np.testing.assert_allclose(found, np.maximum(colours, 1), atol=2e-2)


def test_stains_are_jittered_before_the_pixels_are_normalised():
    image = np.round(255 * hed2rgb(np.full((29, 31, 3), 0.02))).astype(np.uint8)
    image[::2] = 255
    sample = sample_of(image, np.zeros((29, 31)))
    reader = PatchReader(
        ReceptiveField(1, 1, 0), 9, Augmentation(flips=False, contrast=0, brightness=0, stain=0.3)
    )
    found = {
        tuple(
            np.round(
                np.unique(reader.changed(sample, Size(15, 15), np.random.default_rng(s))[0]), 4
            )
        )
        for s in range(4)
    }
    assert len(found) == 4
    rgb = jitter_stains(image, 0.3, np.random.default_rng(0))
    assert rgb.max() <= 255
    assert rgb.min() > 0


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((3, 5, 4), np.uint8), np.zeros((3, 5, 3), np.float32), np.zeros((3, 5, 1), np.uint8)],
)
def test_what_is_not_rgb_has_no_stains(pixels):
    with pytest.raises(UsageError) as caught:
        jitter_stains(pixels, 0.1, np.random.default_rng(0))
    assert caught.value.id == "E-TRAIN-STAIN"
