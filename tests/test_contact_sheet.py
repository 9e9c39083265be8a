"""The contact sheet shows what the training draws, where its labels are."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.segmentation import find_boundaries
from training_shapes import sample_of, shapes

from tilseg.receptive_field import ReceptiveField
from tilseg.training.contact_sheet import contact_sheet
from tilseg.training.patches import PatchReader
from tilseg.training.settings import AUGMENTATIONS, Augmentation

FIELD = ReceptiveField(10, 4, 0)
COLORS = ("#000000", "#0072b2")
BLUE = np.array([0x00, 0x72, 0xB2])


def _cells(sheet, side, columns):
    """The pictures of a sheet: (rows, columns, side, side, 3)."""
    step = side + 6
    assert (np.array(sheet.shape[:2]) - 6).tolist() == [len(sheet) // step * step, columns * step]
    return np.array(
        [
            [
                sheet[6 + row : 6 + row + side, 6 + col : 6 + col + side]
                for col in range(0, columns * step, step)
            ]
            for row in range(0, len(sheet) - 6, step)
        ]
    )


def test_a_row_is_a_patch_and_its_augmented_selves():
    samples = [sample_of(*shapes(331, 283, seed), name=str(seed)) for seed in range(3)]
    reader = PatchReader(FIELD, 180, AUGMENTATIONS["strong"])
    sheet = contact_sheet(reader, samples, COLORS, rows=2, changed=4)
    assert sheet.dtype == np.uint8
    cells = _cells(sheet, reader.output, 5)
    assert cells.shape[:2] == (2, 5)
    assert (sheet[:6] == 255).all()
    assert (sheet[:, :6] == 255).all()
    different = {each.tobytes() for row in cells for each in row}
    assert len(different) == 10
    # Every one of them has an outlined ellipse.
    assert ((cells == BLUE).all(axis=-1).sum(axis=(2, 3)) > 20).all()
    np.testing.assert_array_equal(sheet, contact_sheet(reader, samples, COLORS, rows=2, changed=4))


def test_outlines_are_scikit_images_and_go_with_the_pixels():
    _, labels = shapes(331, 283, 1)
    flat = np.where(labels == 1, 200, 50)
    reader = PatchReader(FIELD, 180, Augmentation(contrast=0, brightness=0))
    sheet = contact_sheet(reader, [sample_of(flat, labels)], COLORS, changed=3)
    for cell in _cells(sheet, reader.output, 4)[0]:
        blue = (cell == BLUE).all(axis=-1)
        inside = blue | (cell == 255).all(axis=-1)
        assert ((cell == 0).all(axis=-1) | inside).all()
        np.testing.assert_array_equal(blue, find_boundaries(inside, mode="inner") & inside)
        assert blue.sum() > 50


def test_unlabelled_pixels_are_dimmed_and_small_patches_enlarged():
    image = np.full((61, 47), 100)
    image[:30] = 200
    labels = np.zeros((61, 47))
    labels[:, :20] = 255
    labels[:, 20:35] = 1
    reader = PatchReader(FIELD, 44, Augmentation(flips=False, contrast=0, brightness=0))
    sheet = contact_sheet(reader, [sample_of(image, labels)], ("#000000", "#ff0000"), changed=1)
    cells = _cells(sheet, 4 * reader.output, 2)
    np.testing.assert_array_equal(cells[0, 0], cells[0, 1])
    red = (cells[0, 0] == [255, 0, 0]).all(axis=-1)
    assert red.any()
    assert set(np.unique(cells[0, 0][~red])) == {0, 127, 255}


@pytest.mark.parametrize("bands", [1, 2, 4])
def test_any_number_of_bands_can_be_shown(bands):
    image, labels = shapes(97, 83, 0)
    stack = np.stack([image, *[255 - image] * (bands - 1)], axis=2)
    reader = PatchReader(FIELD, 40, AUGMENTATIONS["strong"])
    sheet = contact_sheet(reader, [sample_of(stack, labels)], COLORS, changed=2)
    grey = (sheet == sheet[..., :1]).all(axis=-1)
    assert (grey.mean() > 0.9) == (bands < 3)
