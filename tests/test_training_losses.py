"""Losses against formulas written out in numpy, and their behaviour at the edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from scipy.special import softmax
from skimage.measure import label

from tilseg.errors import UsageError
from tilseg.training.border_weights import border_weights, objects_of
from tilseg.training.losses import (
    LOSSES,
    cross_entropy,
    deep_supervision,
    dice,
    focal,
    loss_terms,
    tversky,
)
from tilseg.training.samples import IGNORE


def _case(seed, classes, ignored):
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (2, classes, 5, 7))
    labels = rng.integers(0, classes, (2, 5, 7)).astype(np.uint8)
    labels[rng.random(labels.shape) < ignored] = IGNORE
    return scores, labels


def _pixels(scores, labels):
    """Certainties (pixels, classes) and class values (pixels,) of the labelled pixels."""
    chosen = labels != IGNORE
    return softmax(scores, axis=1).transpose(0, 2, 3, 1)[chosen], labels[chosen]


def _by_class(scores, labels, score):
    """1 - the mean of score(p, t) over the classes that are there."""
    p, truth = _pixels(scores, labels)
    losses = [1 - score(p[:, value], truth == value) for value in np.unique(truth)]
    return np.mean(losses) if losses else 0.0


def _dice(p, t):
    return 2 * (p * t).sum() / (p.sum() + t.sum())


cases = {
    "seed": st.integers(0, 999),
    "classes": st.integers(2, 5),
    "ignored": st.sampled_from([0.0, 0.4, 1.0]),
}


@given(**cases)
def test_losses_of_pixels_are_the_formulas(seed, classes, ignored):
    scores, labels = _case(seed, classes, ignored)
    logits, truth = torch.from_numpy(scores), torch.from_numpy(labels)
    p, values = _pixels(scores, labels)
    own = p[np.arange(len(p)), values]
    weights = tuple(np.random.default_rng(seed).uniform(0.1, 5, classes))
    each = np.array(weights)[values]
    total = max(each.sum(), 1e-6)
    count = max(len(own), 1)
    np.testing.assert_allclose(cross_entropy(logits, truth), -np.log(own).sum() / count)
    np.testing.assert_allclose(
        cross_entropy(logits, truth, class_weights=weights), -(each * np.log(own)).sum() / total
    )
    np.testing.assert_allclose(focal(logits, truth, gamma=0), -np.log(own).sum() / count)
    np.testing.assert_allclose(
        focal(logits, truth, class_weights=weights),
        -(each * (1 - own) ** 2 * np.log(own)).sum() / total,
        rtol=1e-6,
    )
    if len(own):
        expected = F.cross_entropy(
            logits, truth.long(), torch.tensor(weights, dtype=torch.float64), ignore_index=IGNORE
        )
        found = cross_entropy(logits, truth, class_weights=weights)
        torch.testing.assert_close(found, expected)


@given(**cases)
def test_losses_of_overlaps_are_the_formulas(seed, classes, ignored):
    scores, labels = _case(seed, classes, ignored)
    logits, truth = torch.from_numpy(scores), torch.from_numpy(labels)
    scored = {
        dice(logits, truth): _dice,
        dice(logits, truth, squared=True): lambda p, t: (
            2 * (p * t).sum() / ((p**2).sum() + (t**2).sum())
        ),
        dice(logits, truth, smooth=1): lambda p, t: (
            (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
        ),
        tversky(logits, truth): lambda p, t: (
            (p * t).sum() / ((p * t).sum() + 0.3 * (p * ~t).sum() + 0.7 * ((1 - p) * t).sum())
        ),
        tversky(logits, truth, alpha=0.5, beta=0.5): _dice,
    }
    for found, score in scored.items():
        np.testing.assert_allclose(found, _by_class(scores, labels, score), rtol=1e-9)


def test_by_hand():
    # Two pixels: class 0 with certainty 0.8, and class 1 with certainty 0.6.
    logits = torch.tensor([[[[0.8, 0.4]], [[0.2, 0.6]]]], dtype=torch.float64).log()
    labels = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    entropies = -np.log([0.8, 0.6])
    expected = {
        "cross-entropy": entropies.mean(),
        # One object alone has no border.
        "border": entropies.mean(),
        "focal": (0.2**2 * entropies[0] + 0.4**2 * entropies[1]) / 2,
        "dice": 1 - (1.6 / (1.2 + 1) + 1.2 / (0.8 + 1)) / 2,
        "dice-squared": 1 - (1.6 / (0.8 + 1) + 1.2 / (0.4 + 1)) / 2,
        "tversky": 1
        - (0.8 / (0.8 + 0.3 * 0.4 + 0.7 * 0.2) + 0.6 / (0.6 + 0.3 * 0.2 + 0.7 * 0.4)) / 2,
    }
    assert expected.keys() == LOSSES.keys()
    for name, value in expected.items():
        found = loss_terms(name)
        assert {key: term(logits, labels).item() for key, term in found.items()} == {
            name: pytest.approx(value)
        }
    assert list(loss_terms("dice+focal")) == ["dice", "focal"]
    # (1 x -log 0.8 + 3 x -log 0.6) / 4.
    weighted = loss_terms("cross-entropy+dice", (1, 3))
    found = [term(logits, labels).item() for term in weighted.values()]
    assert found == pytest.approx([(entropies @ [1, 3]) / 4, expected["dice"]])
    pixels = cross_entropy(logits, labels, pixel_weights=torch.tensor([[[0.5, 2.0]]]))
    assert pixels.item() == pytest.approx((entropies @ [0.5, 2]) / 2.5)


@pytest.mark.parametrize("name", LOSSES)
def test_the_sigmoid_head_is_two_classes(name):
    scores, labels = _case(3, 2, 0.3)
    one = torch.from_numpy(scores[:, :1])
    both = torch.cat([torch.zeros_like(one), one], dim=1)
    truth = torch.from_numpy(labels)
    torch.testing.assert_close(LOSSES[name](one, truth), LOSSES[name](both, truth))


def test_cross_entropy_of_the_sigmoid_head_is_binary_cross_entropy():
    scores, labels = _case(3, 2, 0.3)
    chosen = torch.from_numpy(labels != IGNORE)
    one, truth = torch.from_numpy(scores[:, :1]), torch.from_numpy(labels)
    expected = F.binary_cross_entropy_with_logits(one[:, 0][chosen], truth[chosen].double())
    torch.testing.assert_close(cross_entropy(one, truth), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_unlabelled_pixels_get_no_gradient_and_no_label_at_all_gives_zero(name):
    scores, labels = _case(5, 3, 0.5)
    logits = torch.from_numpy(scores).requires_grad_()
    LOSSES[name](logits, torch.from_numpy(labels)).backward()
    gradient = logits.grad.abs().amax(dim=1).numpy()
    assert (gradient[labels == IGNORE] == 0).all()
    assert (gradient[labels != IGNORE] > 0).all()
    nothing = torch.full((2, 5, 7), IGNORE, dtype=torch.uint8)
    assert LOSSES[name](logits, nothing).item() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_certain_mistakes_are_finite(name):
    logits = torch.full((1, 2, 3, 3), 1000.0)
    logits[:, 1] = -1000
    labels = torch.ones((1, 3, 3), dtype=torch.uint8)
    logits.requires_grad_()
    loss = LOSSES[name](logits, labels)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_a_class_absent_from_the_batch_has_no_dice():
    logits = torch.zeros((1, 3, 2, 2))
    labels = torch.zeros((1, 2, 2), dtype=torch.uint8)
    assert dice(logits, labels).item() == pytest.approx(1 - 2 * (4 / 3) / (4 / 3 + 4))


def test_deep_supervision_sums_the_losses_of_cropped_heads():
    scores, labels = _case(7, 3, 0.2)
    truth = torch.from_numpy(labels)
    exact = torch.from_numpy(scores)
    larger = torch.from_numpy(np.pad(scores, [(0, 0), (0, 0), (2, 2), (1, 1)], mode="edge")) / 2
    found = deep_supervision(cross_entropy, (exact, larger), truth, (1.0, 0.4))
    expected = cross_entropy(exact, truth) + 0.4 * cross_entropy(exact / 2, truth)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("names", ["", "dise", "dice+", "cross-entropy + dice"])
def test_a_loss_that_is_none_is_refused(names):
    with pytest.raises(
        UsageError, match="use cross-entropy, border, focal, dice, dice-squared, tversky"
    ):
        loss_terms(names)


@given(seed=st.integers(0, 999), density=st.sampled_from([0.0, 0.02, 0.3, 0.7]))
def test_border_weights_are_the_formula(seed, density):
    rng = np.random.default_rng(seed)
    coarse = rng.random((13, 9)) < density
    objects = label(np.kron(coarse, np.ones((7, 5), int))[:83, :41], connectivity=2)
    numbers = range(1, objects.max() + 1)
    # Every distance to every object, and the least two.
    distances = [distance_transform_edt(objects != number) for number in numbers]
    d1, d2 = np.sort([np.full(objects.shape, np.inf)] * 2 + distances, axis=0)[:2]
    expected = np.where(objects > 0, 3.0, 0.5) + 10 * np.exp(-((d1 + d2) ** 2) / (2 * 5**2))
    found = border_weights(objects, foreground=3, background=0.5)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


def test_border_weights_between_two_cells_by_hand():
    # A gap of three pixels: in its middle both cells are two pixels away, at its ends one and
    # three, and inside a cell none and four.
    objects = np.array([[1, 0, 0, 0, 2]])
    expected = 1 + 10 * np.exp(-(np.full(5, 4) ** 2) / 50)
    np.testing.assert_allclose(border_weights(objects), [expected])
    assert border_weights(np.array([[1, 0, 0]])).tolist() == [[1, 1, 1]]
    # Numbers need not be consecutive, and an unused one is no object.
    np.testing.assert_array_equal(border_weights(objects * 7), border_weights(objects))


def test_the_border_loss_weighs_the_ground_between_objects():
    labels = np.zeros((2, 9, 11), np.uint8)
    labels[0, 2:7, 1:4] = labels[0, 2:7, 6:9] = 1
    labels[1, :4] = 1
    labels[1, 4:6] = 2  # another class is another object
    labels[1, 0, 3] = labels[0, 0, 0] = IGNORE
    objects = np.stack([label(labels[0] == 1), (labels[1] == 1) + 2 * (labels[1] == 2)])
    np.testing.assert_array_equal(objects_of(labels[0]) > 0, objects[0] > 0)
    weights = np.stack([border_weights(each.astype(int)) for each in objects])
    assert weights[0, 4, 4] > 3 * weights[0, 4, 10] > 3
    scores = np.random.default_rng(0).normal(0, 2, (2, 3, 9, 11))
    chosen = labels != IGNORE
    p, values = _pixels(scores, labels)
    each = -np.log(p[np.arange(len(p)), values]) * weights[chosen]
    found = LOSSES["border"](torch.from_numpy(scores), torch.from_numpy(labels))
    np.testing.assert_allclose(found, each.sum() / weights[chosen].sum())
