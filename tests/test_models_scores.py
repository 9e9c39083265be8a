"""Classes, probabilities and the finite check, against numpy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contracts.model_contract import card_of
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

from tilseg.models import scores
from tilseg.models.unet import build


def card(channels: int, **fields):
    parameters = {"bands": 1, "classes": channels, "depth": 1, "width": 1}
    return card_of(build(parameters), "unet", parameters, **fields)


CARDS = {channels: card(channels) for channels in (1, 2, 3, 7, 255)}


@given(
    channels=st.sampled_from([2, 3, 7, 255]),
    rows=st.integers(1, 5),
    cols=st.integers(1, 5),
    seed=st.integers(0, 2**16),
)
def test_softmax_takes_the_first_of_the_largest(channels, rows, cols, seed):
    found = np.random.default_rng(seed).integers(-2, 3, (channels, rows, cols)).astype(np.float32)
    labels = scores.labels(torch.from_numpy(found), CARDS[channels])
    assert labels.dtype == torch.uint8
    np.testing.assert_array_equal(labels, found.argmax(axis=0))  # numpy's takes the first too


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
def test_sigmoid_is_above_its_threshold(threshold):
    found = np.random.default_rng(3).normal(size=(1, 31, 17)).astype(np.float32)
    labels = scores.labels(torch.from_numpy(found), card(1, threshold=threshold))
    np.testing.assert_array_equal(labels, expit(found[0].astype(np.float64)) > threshold)


def test_even_odds_are_background():
    even = torch.zeros(1, 1, 1)
    assert scores.labels(even, CARDS[1]).item() == 0
    assert scores.labels(even.repeat(2, 1, 1), CARDS[2]).item() == 0


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_probabilities_are_rounded_to_the_nearest(channels):
    found = 4 * np.random.default_rng(4).normal(size=(channels, 23, 11))
    certain = scores.probabilities(torch.from_numpy(found), CARDS[channels])
    if channels == 1:
        one = expit(found[0])
        expected = np.stack([1 - one, one], axis=-1)
    else:
        expected = softmax(found, axis=0).transpose(1, 2, 0)
    assert certain.dtype == torch.uint8
    assert certain.is_contiguous()
    np.testing.assert_array_equal(certain, np.rint(255 * expected))


def test_probabilities_of_huge_scores_do_not_overflow():
    huge = torch.tensor([3e38, -3e38, 3e38]).view(3, 1, 1)
    assert scores.probabilities(huge, CARDS[3]).tolist() == [[[128, 0, 128]]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_score_is_found(bad):
    found = torch.randn(3, 19, 13)
    assert scores.finite(found).item() is True
    found[2, 18, 0] = bad
    assert scores.finite(found).item() is False
