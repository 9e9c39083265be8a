"""Losses against formulas written out in numpy, and their behaviour at the edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, log_softmax, softmax

from tilseg.training.losses import cross_entropy, cross_entropy_dice, dice
from tilseg.training.samples import IGNORE


def _case(seed, classes, ignored):
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (2, classes, 5, 7))
    labels = rng.integers(0, classes, (2, 5, 7)).astype(np.uint8)
    labels[rng.random(labels.shape) < ignored] = IGNORE
    return scores, labels


def _dice_in_numpy(probabilities, labels):
    losses = []
    for value in range(probabilities.shape[1]):
        truth = labels == value
        if truth.any():
            p = probabilities[:, value][labels != IGNORE]
            overlap = probabilities[:, value][truth].sum()
            losses.append(1 - 2 * overlap / (p.sum() + truth.sum()))
    return np.mean(losses) if losses else 0.0


@given(seed=st.integers(0, 999), classes=st.integers(2, 5), ignored=st.sampled_from([0.0, 0.4]))
def test_both_losses_are_the_formulas_over_labelled_pixels(seed, classes, ignored):
    scores, labels = _case(seed, classes, ignored)
    tensor, truth = torch.from_numpy(scores), torch.from_numpy(labels)
    chosen = labels != IGNORE
    logs = log_softmax(scores, axis=1)
    expected = -np.take_along_axis(logs, np.where(chosen, labels, 0)[:, None].astype(int), 1)
    expected = expected[:, 0][chosen].mean()
    np.testing.assert_allclose(cross_entropy(tensor, truth), expected, rtol=1e-9)
    probabilities = softmax(scores, axis=1)
    found = dice(torch.from_numpy(probabilities), truth)
    np.testing.assert_allclose(found, _dice_in_numpy(probabilities, labels), rtol=1e-9)
    total = expected + _dice_in_numpy(probabilities, labels)
    np.testing.assert_allclose(cross_entropy_dice(tensor, truth), total, rtol=1e-5)


def test_by_hand():
    # Two pixels, class 0 with certainty 0.8 and class 1 with certainty 0.6.
    probabilities = torch.tensor([[[[0.8, 0.4]], [[0.2, 0.6]]]])
    labels = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    expected = 1 - (2 * 0.8 / (1.2 + 1) + 2 * 0.6 / (0.8 + 1)) / 2
    assert dice(probabilities, labels).item() == pytest.approx(expected)
    entropy = cross_entropy(probabilities.log(), labels).item()
    assert entropy == pytest.approx(-(np.log(0.8) + np.log(0.6)) / 2)


def test_the_sigmoid_head_is_binary_cross_entropy_and_dice():
    scores, labels = _case(3, 2, 0.3)
    chosen, p = labels != IGNORE, expit(scores[:, 0])
    entropy = -np.where(labels == 1, np.log(p), np.log(1 - p))[chosen].mean()
    both = np.stack([1 - p, p], axis=1)
    found = cross_entropy_dice(torch.from_numpy(scores[:, :1]), torch.from_numpy(labels))
    assert found.item() == pytest.approx(entropy + _dice_in_numpy(both, labels), rel=1e-5)


def test_unlabelled_pixels_get_no_gradient_and_no_label_at_all_gives_zero():
    scores, labels = _case(5, 3, 0.5)
    tensor = torch.from_numpy(scores).requires_grad_()
    cross_entropy_dice(tensor, torch.from_numpy(labels)).backward()
    gradient = tensor.grad.abs().amax(dim=1).numpy()
    assert (gradient[labels == IGNORE] == 0).all()
    assert (gradient[labels != IGNORE] > 0).all()
    nothing = torch.full((2, 5, 7), IGNORE, dtype=torch.uint8)
    assert cross_entropy_dice(tensor, nothing).item() == 0


def test_a_class_absent_from_the_batch_has_no_dice():
    probabilities = torch.full((1, 3, 2, 2), 1 / 3)
    labels = torch.zeros((1, 2, 2), dtype=torch.uint8)
    assert dice(probabilities, labels).item() == pytest.approx(1 - 2 * (4 / 3) / (4 / 3 + 4))
