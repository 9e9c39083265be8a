"""Confusion matrix, the figures made of it, and boundary F1, against numpy and scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from metrics_oracle import IGNORE, blobs, boundary, confusion

import tilseg
from tilseg.errors import InputError, UsageError


@pytest.mark.parametrize("seed", range(3))
def test_figures_equal_numpy_on_the_whole(seed):
    shape = (67, 91)
    predicted = blobs(seed, shape, 4, ignored=0.05)
    truth = blobs(seed + 100, shape, 3, ignored=0.1)
    score = tilseg.evaluate(predicted, truth)
    matrix = np.array(confusion(predicted, truth, [0, 1, 2, 3]))
    assert score.confusion == tuple(map(tuple, matrix.tolist()))
    assert score.pixels == matrix.sum()
    assert score.ignored == np.count_nonzero(truth == IGNORE)
    assert score.not_predicted == np.count_nonzero((predicted == IGNORE) & (truth != IGNORE))
    right, rows, cols = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    iou = right / (rows + cols - right)
    assert score.pixel_accuracy == pytest.approx(right.sum() / matrix.sum(), rel=1e-15)
    assert score.pixel_error == 1 - score.pixel_accuracy
    # The truth has no class 3: it has a precision and an IoU of 0, and no recall.
    assert score.mean_class_accuracy == pytest.approx((right[:3] / rows[:3]).mean(), rel=1e-14)
    assert score.mean_precision == pytest.approx((right / cols).mean(), rel=1e-14)
    assert score.mean_iou == pytest.approx(iou.mean(), rel=1e-14)
    weighted = (rows / rows.sum() * iou).sum()
    assert score.frequency_weighted_iou == pytest.approx(weighted, rel=1e-14)
    assert score.mean_dice == pytest.approx((2 * right / (rows + cols)).mean(), rel=1e-14)
    assert [each.iou for each in score.classes] == iou.tolist()
    assert score.classes[3].accuracy is None
    assert score.classes[3].precision == 0.0


def test_figures_by_hand():
    truth = np.array([[0, 0, 0, 0], [1, 1, 1, 1]])
    predicted = np.array([[0, 0, 0, 1], [1, 1, 0, 0]])
    score = tilseg.evaluate(predicted, truth)
    assert score.confusion == ((3, 1), (2, 2))
    assert score.pixel_accuracy == 5 / 8
    assert score.mean_class_accuracy == (3 / 4 + 2 / 4) / 2
    assert score.mean_precision == pytest.approx((3 / 5 + 2 / 3) / 2)
    assert score.mean_iou == pytest.approx((3 / 6 + 2 / 5) / 2)
    assert score.mean_dice == pytest.approx((6 / 9 + 4 / 7) / 2)
    assert score.frequency_weighted_iou == pytest.approx(3 / 6 / 2 + 2 / 5 / 2)


def test_a_class_that_is_in_neither_map_counts_for_nothing():
    truth = np.zeros((5, 7), np.uint8)
    predicted = truth.copy()
    # A class that lies in ignored pixels only.
    truth[0, 0], predicted[0, 0] = IGNORE, 9
    score = tilseg.evaluate(predicted, truth, ignore=[IGNORE])
    assert [(each.value, each.iou) for each in score.classes] == [(0, 1.0), (9, None)]
    assert score.mean_iou == 1.0
    assert score.mean_boundary_f1 is None


@pytest.mark.parametrize("tolerance", [0, 1, 2, 2.9, 5])
@pytest.mark.parametrize("ignored", [0.0, 0.15])
def test_boundaries_equal_scikit_image_and_scipy(tolerance, ignored):
    shape = (83, 61)
    predicted, truth = blobs(1, shape, ignored=ignored), blobs(2, shape, ignored=ignored)
    score = tilseg.evaluate(predicted, truth, tolerance=tolerance)
    for each in score.classes:
        counted = (
            each.boundary_predicted,
            each.boundary_predicted_near,
            each.boundary_truth,
            each.boundary_truth_near,
        )
        assert counted == boundary(predicted, truth, each.value, tolerance)
        assert counted[0] > counted[1] > 0


def test_boundary_f1_by_hand():
    truth = np.zeros((9, 11), np.uint8)
    predicted = truth.copy()
    truth[3:6, 3:6] = 1
    predicted[3:6, 4:8] = 1
    # Outlines of class 1: 8 pixels and 10. Of the truth's, the left column of 3 lies 1 px off
    # the other; of the prediction's, the two right columns lie 2 and 1 px off.
    exact = tilseg.evaluate(predicted, truth, tolerance=0).classes[1]
    assert (exact.boundary_truth, exact.boundary_predicted) == (8, 10)
    assert exact.boundary_truth_near == exact.boundary_predicted_near == 4
    assert exact.boundary_f1 == pytest.approx(2 * 0.4 * 0.5 / 0.9)
    near = tilseg.evaluate(predicted, truth, tolerance=1).classes[1]
    assert (near.boundary_truth_near, near.boundary_predicted_near) == (8, 7)
    assert tilseg.evaluate(predicted, truth, tolerance=2).classes[1].boundary_f1 == 1.0


def test_a_boundary_that_only_one_map_has_scores_nothing():
    truth = np.zeros((6, 5), np.uint8)
    predicted = truth.copy()
    predicted[2, 2] = 1
    score = tilseg.evaluate(predicted, truth)
    assert [each.boundary_f1 for each in score.classes] == [0.0, 0.0]


@pytest.mark.parametrize("tolerance", [-1, 65, math.nan])
def test_tolerance_out_of_range_is_refused(tolerance):
    mask = np.zeros((3, 4), np.uint8)
    with pytest.raises(UsageError, match="use 0 to 64 pixels"):
        tilseg.evaluate(mask, mask, tolerance=tolerance)


@pytest.mark.parametrize("other", [0, IGNORE])
def test_nothing_to_compare_is_refused(other):
    nothing, mask = np.full((4, 5), IGNORE, np.uint8), np.full((4, 5), other, np.uint8)
    with pytest.raises(InputError, match="no pixel has a class both here and in") as caught:
        tilseg.evaluate(mask, nothing)
    assert caught.value.id == "E-CLASSES-NONE"
