"""The score of two maps does not depend on the blocks they are read in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_oracle import blobs, labels
from skimage.measure import label

from tilseg.metrics.codes import coded_pair
from tilseg.metrics.compare import compare
from tilseg.metrics.difference import DifferenceCounter
from tilseg.metrics.joining import Joiner
from tilseg.regions.components import Rules, components
from tilseg.sink import windows_of
from tilseg.truth.raster import open_raster
from tilseg.window import Size

sides = st.integers(1, 41)
blocks = st.tuples(st.integers(1, 45), st.integers(1, 45))


@settings(max_examples=80)
@given(
    shape=st.tuples(sides, sides),
    block=blocks,
    seed=st.integers(0, 2**20),
    classes=st.integers(1, 4),
    smooth=st.sampled_from([0.0, 0.7, 2.0]),
    ignored=st.sampled_from([0.0, 0.2]),
    tolerance=st.sampled_from([0, 1, 2.5, 7]),
    connectivity=st.sampled_from([1, 2]),
)
def test_any_blocks_give_the_same_score(
    shape, block, seed, classes, smooth, ignored, tolerance, connectivity
):
    predicted = blobs(seed, shape, classes, smooth=smooth, ignored=ignored)
    truth = blobs(seed + 1, shape, classes, smooth=smooth, ignored=ignored)
    truth[0, 0] = predicted[0, 0] = 0
    pair = coded_pair(open_raster(predicted), open_raster(truth))
    found = []
    for size in (Size(*shape), Size(*block)):
        differences = DifferenceCounter(pair.shape, 9, pair.background)
        score = compare(
            pair,
            tolerance=tolerance,
            connectivity=connectivity,
            differences=differences,
            block=size,
        )
        found.append((score, differences.cells))
    # Equal to the last bit, the floats too.
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


@given(
    shape=st.tuples(sides, sides),
    block=blocks,
    seed=st.integers(0, 2**20),
    connectivity=st.sampled_from([1, 2]),
)
def test_objects_are_numbered_as_scikit_image_does(shape, block, seed, connectivity):
    mask = blobs(seed, shape, 3, smooth=1.0, ignored=0.1)
    joiner = Joiner(Size(*shape), connectivity)
    painted = np.zeros(shape, np.int64)
    for window in windows_of(Size(*shape), Size(*block)):
        parts = components(mask[window.slices], Rules(255, 0, connectivity))
        base = joiner.add(window, parts)
        local = parts.paint(np.arange(1, len(parts) + 1)).reshape(-1, parts.stride)[1:-1, 1:-1]
        painted[window.slices] = np.where(local, local + base, 0)
    objects = joiner.finish()
    expected = labels(mask, connectivity)
    np.testing.assert_array_equal(objects.number[painted], expected)
    inside = expected > 0
    np.testing.assert_array_equal(objects.codes[expected[inside]], mask[inside])


@pytest.mark.parametrize("connectivity", [1, 2])
def test_a_snake_through_many_blocks_is_one_object(connectivity):
    mask = np.zeros((37, 41), np.uint8)
    mask[::4] = 1
    mask[2::8, -1] = mask[1::8, -1] = mask[3::8, -1] = 1
    mask[6::8, 0] = mask[5::8, 0] = mask[7::8, 0] = 1
    truth = np.eye(37, 41, dtype=np.uint8)
    pair = coded_pair(open_raster(mask), open_raster(truth))
    score = compare(pair, connectivity=connectivity, block=Size(5, 3))
    assert score == compare(pair, connectivity=connectivity)
    made = score.objects.true_positives + score.objects.false_positives
    true = score.objects.true_positives + score.objects.false_negatives
    assert made == label(mask, connectivity=connectivity).max() == 1
    assert true == (37 if connectivity == 1 else 1)


def test_cells_of_the_picture_count_every_pixel_once():
    shape = (53, 31)
    predicted, truth = blobs(3, shape, ignored=0.1), blobs(4, shape)
    pair = coded_pair(open_raster(predicted), open_raster(truth))
    differences = DifferenceCounter(pair.shape, 10, 0)
    compare(pair, differences=differences, block=Size(7, 13))
    assert differences.factor == 6
    assert differences.cells.shape == (6, 9, 6)
    valid = predicted != 255
    kinds = [
        ~valid,
        valid & (predicted == truth) & (truth == 0),
        valid & (predicted == truth) & (truth > 0),
        valid & (predicted > 0) & (truth == 0),
        valid & (predicted == 0) & (truth > 0),
        valid & (predicted > 0) & (truth > 0) & (predicted != truth),
    ]
    for kind, cells in zip(kinds, differences.cells, strict=True):
        wide = np.zeros((54, 36), int)
        wide[:53, :31] = kind
        np.testing.assert_array_equal(cells, wide.reshape(9, 6, 6, 6).sum(axis=(1, 3)))
