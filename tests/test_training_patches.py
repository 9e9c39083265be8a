"""Patches are crops of the mirrored image, and what changes them leaves their classes alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_shapes import sample_of, shapes

from tilseg.receptive_field import ReceptiveField, compose
from tilseg.training.centres import Centres
from tilseg.training.deformation import Deformation, dihedral, draw_deformation
from tilseg.training.intensities import change_intensity
from tilseg.training.patches import PatchReader
from tilseg.training.samples import IGNORE
from tilseg.training.settings import AUGMENTATIONS, Augmentation
from tilseg.window import Size, Window

FIELDS = [compose([4] * depth, 4, [4] * depth, [0] * depth) for depth in (1, 2)]
UNCHANGED = Augmentation(contrast=0, brightness=0)


def _sample(rows, cols, bands=2):
    rng = np.random.default_rng(rows * 100 + cols)
    image = rng.integers(0, 255, (rows, cols, bands), dtype=np.uint8)
    labels = rng.integers(0, 2, (rows, cols), dtype=np.uint8)
    labels[rng.random(labels.shape) < 0.1] = IGNORE
    return image, labels, sample_of(image, labels)


def _padded(array, width):
    # numpy's reflect can't mirror an axis of one pixel: there the pixel repeats.
    for axis in (0, 1):
        pad = [(width, width) if axis == own else (0, 0) for own in range(array.ndim)]
        array = np.pad(array, pad, mode="reflect" if array.shape[axis] > 1 else "edge")
    return array


@given(
    rows=st.integers(1, 37),
    cols=st.integers(1, 37),
    place=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    patch=st.integers(1, 23),
    field=st.sampled_from(FIELDS),
)
@settings(max_examples=60, deadline=None)
def test_a_patch_is_a_crop_of_the_image_padded_by_reflection(rows, cols, place, patch, field):
    image, labels, sample = _sample(rows, cols)
    reader = PatchReader(field, patch, UNCHANGED)
    centre = Size(int(place[0] * rows), int(place[1] * cols))
    pixels, classes = reader.read(sample, centre)
    assert reader.output >= patch
    width = 2 * reader.input
    row, col = (at + width - reader.input // 2 for at in centre)
    std = image.std(axis=(0, 1))
    normal = (image - image.mean(axis=(0, 1))) / np.where(std == 0, 1, std)
    expected = _padded(normal, width)[row : row + reader.input, col : col + reader.input]
    np.testing.assert_allclose(pixels, expected, rtol=1e-4, atol=1e-4)
    row, col = row + field.halo, col + field.halo
    expected = _padded(labels, width)[row : row + reader.output, col : col + reader.output]
    np.testing.assert_array_equal(classes, expected)


def test_pixels_are_drawn_alike_wherever_they_are():
    rows, cols = 7, 11
    numbers = np.arange(rows * cols, dtype=np.uint8).reshape(rows, cols)
    sample = sample_of(numbers, numbers)
    reader = PatchReader(ReceptiveField(0, 1, 0), 5, UNCHANGED)
    rng, centres = np.random.default_rng(0), Centres((sample,))
    drawn = np.concatenate([reader.draw(centres, rng)[1].ravel() for _ in range(12000)])
    share = np.bincount(drawn, minlength=77).reshape(rows, cols) / len(drawn)

    def axis(length):
        padded = np.pad(np.arange(length), 2, mode="reflect")
        return np.bincount(np.concatenate([padded[c : c + 5] for c in range(length)]))

    expected = np.outer(axis(rows), axis(cols))
    np.testing.assert_allclose(share, expected / expected.sum(), rtol=0.1)


@pytest.mark.parametrize("zoom", [0.6, 0.8, 1.3, 1.6])
def test_zoom_keeps_labels_on_their_pixels(zoom):
    image, labels = shapes(131, 173, 4)
    labels[:] = image > 105  # so that pixels tell the labels
    smooth = np.where(labels == 1, 200, 20).astype(np.uint8)
    reader = PatchReader(ReceptiveField(20, 4, 0), 60, UNCHANGED)
    sample = sample_of(smooth, labels)
    pixels, classes = reader.read(sample, Size(61, 83), Deformation(reader.input, zoom))
    assert pixels.shape == (reader.input, reader.input, 1)
    assert classes.shape == (reader.output, reader.output)
    inner = pixels[20:-20, 20:-20, 0]
    # Half-way between both values, except in the blur of an edge.
    low, high = ((value - smooth.mean()) / smooth.std() for value in (20, 200))
    agree = (inner > (low + high) / 2) == (classes == 1)
    assert agree.mean() > 0.98
    assert 0 < classes.mean() < 0.5


def test_zoom_enlarges_objects_by_the_factor():
    labels = np.zeros((201, 203), np.uint8)
    labels[90:111, 85:116] = 1
    reader = PatchReader(ReceptiveField(0, 1, 0), 120, UNCHANGED)
    sample = sample_of(labels * 100 + 5, labels)
    for zoom in (0.7, 1.0, 1.5):
        _, classes = reader.read(sample, Size(100, 100), Deformation(reader.input, zoom))
        rows, cols = np.ptp(np.nonzero(classes), axis=1) + 1
        assert rows == pytest.approx(21 * zoom, abs=1.5)
        assert cols == pytest.approx(31 * zoom, abs=1.5)


def test_the_eight_symmetries_are_all_different_and_keep_pixels():
    patch = np.arange(12).reshape(3, 4, 1)
    found = [dihedral(patch, symmetry) for symmetry in range(8)]
    assert len({(each.shape, each.tobytes()) for each in found}) == 8
    assert all(sorted(each.ravel()) == list(range(12)) for each in found)
    np.testing.assert_array_equal(found[0], patch)


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_intensity_changes_are_finite_and_bounded(name, bands):
    pixels = np.random.default_rng(1).normal(0, 1, (29, 31, bands)).astype(np.float32)
    augmentation = AUGMENTATIONS[name]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        changed = change_intensity(pixels, augmentation, rng)
        assert changed.shape == pixels.shape
        assert changed.dtype == np.float32
        bound = np.exp(1.5 * augmentation.contrast) * np.abs(pixels).max()
        bound += 1.5 * augmentation.brightness + 6 * augmentation.noise
        assert np.abs(changed).max() <= bound
        assert not np.array_equal(changed, pixels)


def test_a_flat_patch_survives_every_change():
    flat = np.full((9, 7, 3), 0.25, np.float32)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert np.isfinite(change_intensity(flat, AUGMENTATIONS["strong"], rng)).all()


def test_zoom_is_drawn_within_its_bounds():
    rng = np.random.default_rng(0)
    drawn = [draw_deformation(AUGMENTATIONS["strong"], 7, rng).zoom for _ in range(500)]
    assert 0.6 <= min(drawn) < 0.65
    assert 1.5 < max(drawn) <= 1.6
    assert draw_deformation(AUGMENTATIONS["light"], 7, rng).zoom == 1.0


def test_a_batch_depends_on_its_seed_and_step_alone():
    centres = Centres(tuple(_sample(41, 53)[2] for _ in range(2)))
    reader = PatchReader(FIELDS[1], 20, AUGMENTATIONS["strong"])
    first = reader.batch(centres, 3, seed=5, step=7)
    reader.batch(centres, 2, seed=5, step=6)
    again = reader.batch(centres, 3, seed=5, step=7)
    assert first[0].shape == (3, 2, reader.input, reader.input)
    assert first[1].shape == (3, reader.output, reader.output)
    assert all(one.equal(other) for one, other in zip(first, again, strict=True))
    for seed, step in ((5, 8), (6, 7)):
        assert not reader.batch(centres, 3, seed=seed, step=step)[0].equal(first[0])


def test_a_group_is_drawn_as_the_square_root_of_its_number_of_images():
    samples = [sample_of(np.full((3, 5), 0), np.full((3, 5), 0), f"many/{n}") for n in range(9)]
    samples.append(sample_of(np.full((3, 5), 0), np.full((3, 5), 1), "single/0"))
    reader = PatchReader(ReceptiveField(0, 1, 0), 1, UNCHANGED)
    rng = np.random.default_rng(0)
    centres = Centres(tuple(samples))
    single = np.mean([reader.draw(centres, rng)[1].max() for _ in range(2000)])
    assert single == pytest.approx(1 / (1 + 3), abs=0.04)


def test_a_balance_centres_patches_on_every_class_alike():
    labels = np.zeros((61, 83), np.uint8)
    labels[:9] = IGNORE
    labels[40, 50] = 2  # one pixel
    labels[20:30, 5:15] = 1
    other = np.full((31, 41), 3, np.uint8)
    centres = Centres((sample_of(labels, labels), sample_of(other, other)), balance=1.0)
    rng = np.random.default_rng(0)
    drawn = [centres.draw(rng) for _ in range(2000)]
    values = [sample.target(Window(*centre, 1, 1))[0, 0] for sample, centre in drawn]
    np.testing.assert_allclose(np.bincount(values, minlength=4) / 2000, 0.25, atol=0.04)
    assert {centre for (_, centre), value in zip(drawn, values, strict=True) if value == 2} == {
        Size(40, 50)
    }
    ones = {centre for (_, centre), value in zip(drawn, values, strict=True) if value == 1}
    assert len(ones) == 100  # every pixel of the class
    half = Centres(centres.samples, balance=0.5)
    values = [s.target(Window(*c, 1, 1))[0, 0] for s, c in (half.draw(rng) for _ in range(2000))]
    # Half of the draws are of any pixel of either image: 1 in 10,126 is of class 2.
    assert np.mean(np.equal(values, 2)) == pytest.approx(0.125, abs=0.03)


def test_pixels_of_a_large_class_are_kept_alike(monkeypatch):
    monkeypatch.setattr("tilseg.training.centres._KEPT", 50)
    monkeypatch.setattr("tilseg.training.samples._STRIP", 7)
    labels = np.ones((61, 83), np.uint8)
    sample, rows = sample_of(labels, labels), []
    for seed in range(60):
        places = Centres((sample,), balance=1.0, seed=seed)._places[1][0]
        assert places.shape == (50, 2)
        assert len({tuple(place) for place in places}) == 50
        rows += places[:, 0].tolist()
    assert np.mean(rows) == pytest.approx(30, abs=1.5)
    assert np.std(rows) == pytest.approx(61 / 12**0.5, abs=1)
