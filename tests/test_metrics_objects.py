"""Objects and partitions, against definitions on the whole mask, and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from metrics_oracle import IGNORE, blobs, labels, objects
from skimage.metrics import adapted_rand_error, variation_of_information

import tilseg
from tilseg.card import ClassInfo
from tilseg.georef import Georef
from tilseg.sinks.zarr import MaskStore
from tilseg.window import Size, Window


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("ignored", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(2))
def test_objects_equal_the_definitions_on_the_whole(seed, ignored, connectivity):
    shape = (47, 53)
    truth = blobs(seed, shape, 3, ignored=ignored)
    # Mostly the same objects, so that some match and some do not.
    noise = blobs(seed + 50, shape, 3, ignored=ignored)
    predicted = np.where(blobs(seed + 90, shape, 3) == 0, noise, truth)
    score = tilseg.evaluate(predicted, truth, connectivity=connectivity)
    total = [0, 0, 0]
    for each in score.classes[1:]:
        found = objects(predicted, truth, each.value, 1 if connectivity == 4 else 2)
        counts = each.objects
        assert counts is not None
        outcome = (counts.true_positives, counts.false_positives, counts.false_negatives)
        assert outcome == (found.true, found.false, found.missed)
        assert counts.matched_iou == pytest.approx(found.iou, rel=1e-13)
        assert (counts.shared, counts.joined) == (found.shared, found.joined)
        total = [a + b for a, b in zip(total, outcome, strict=True)]
    assert score.classes[0].objects is None
    assert min(total) > 0
    together = score.objects
    assert total == [
        together.true_positives,
        together.false_positives,
        together.false_negatives,
    ]


def _row(*runs: tuple[int, int], length: int = 40) -> np.ndarray:
    line = np.zeros((1, length), np.uint8)
    for start, stop in runs:
        line[0, start:stop] = 1
    return line


def test_objects_by_hand():
    # A: 10 px, of which 9 are found and 1 is added: IoU 9/11. B: cut in 4 and 5 of 10 px.
    # C: missed. The last of the prediction is made up.
    truth = _row((0, 10), (12, 22), (24, 27))
    predicted = _row((1, 11), (12, 16), (17, 22), (30, 36))
    objects = tilseg.evaluate(predicted, truth).objects
    assert (objects.true_positives, objects.false_positives, objects.false_negatives) == (1, 3, 2)
    assert objects.precision == 1 / 4
    assert objects.recall == 1 / 3
    assert objects.f1 == pytest.approx(2 / (2 + 3 + 2))
    assert objects.segmentation_quality == pytest.approx(9 / 11)
    assert objects.panoptic_quality == pytest.approx(9 / 11 / (1 + 3 / 2 + 2 / 2))
    # AJI: A joins to 11, B takes its larger half and joins to 10, C adds 3; the half that
    # nothing took adds 4, what was made up 6.
    assert objects.aji == pytest.approx((9 + 5) / (11 + 10 + 3 + 4 + 6))


def test_an_iou_of_exactly_one_half_does_not_match():
    score = tilseg.evaluate(_row((0, 10)), _row((0, 5)))
    assert (score.objects.true_positives, score.objects.false_positives) == (0, 1)
    assert tilseg.evaluate(_row((0, 9)), _row((0, 5))).objects.true_positives == 1


def test_equal_ious_take_the_first_in_raster_order():
    # Both predicted objects have an IoU of 2/10 with the first true one, and the right one has
    # 1/4 with the second.
    truth, predicted = _row((2, 10), (11, 12)), _row((0, 4), (8, 12))
    assert tilseg.evaluate(predicted, truth).objects.aji == pytest.approx(3 / (10 + 4))
    # Mirrored, the one that is taken twice comes first, and the other is left over.
    mirrored = tilseg.evaluate(predicted[:, ::-1], truth[:, ::-1]).objects
    assert mirrored.aji == pytest.approx(3 / (10 + 4 + 4))


def test_objects_match_within_their_class_only():
    truth, predicted = _row((2, 9)), _row((2, 9)) * 2
    score = tilseg.evaluate(predicted, truth)
    assert score.objects.true_positives == 0
    assert [c.objects.panoptic_quality for c in score.classes if c.objects] == [0.0, 0.0]
    assert score.panoptic_quality == 0.0


def test_without_a_background_every_class_forms_objects():
    mask = np.array([[3, 3, 4, 4, 4], [3, 3, 3, 4, 9]], np.uint8)
    score = tilseg.evaluate(mask, mask)
    assert score.background is None
    assert [each.objects.true_positives for each in score.classes] == [1, 1, 1]


@pytest.mark.parametrize("background", [None, 1])
def test_the_background_is_what_the_mask_says(tmp_path, background):
    mask = np.array([[0, 0, 1, 2, 2], [0, 1, 1, 1, 2]], np.uint8)
    store = MaskStore.create(tmp_path / "mask.zarr", Size(2, 5), Size(16, 16))
    store.commit(Window(0, 0, 2, 5), mask)
    classes = [ClassInfo(name=str(k), color="#000000") for k in range(3)]
    store.finish(name="a", classes=classes, georef=Georef(), background=background)
    score = tilseg.evaluate(store.path, mask)
    assert score.background == background
    assert [each.objects is None for each in score.classes] == [False, background == 1, False]
    assert score.objects.true_positives == (3 if background is None else 2)


def test_what_is_mostly_ignored_is_no_mistake():
    truth, predicted = _row((0, 3)), _row((0, 3), (10, 20), (30, 40))
    truth[0, 14:20] = IGNORE  # 6 of 10 px: more than half
    truth[0, 35:40] = IGNORE  # 5 of 10 px: just half
    score = tilseg.evaluate(predicted, truth)
    assert (score.objects.true_positives, score.objects.false_positives) == (1, 1)
    # The other way round it is no miss.
    turned = tilseg.evaluate(truth, predicted)
    assert (turned.objects.true_positives, turned.objects.false_negatives) == (1, 1)
    assert (turned.not_predicted, score.ignored) == (11, 11)


def test_without_objects_there_is_no_quality():
    empty = np.zeros((5, 3), np.uint8)
    score = tilseg.evaluate(empty, empty)
    assert score.objects.f1 is score.objects.aji is score.panoptic_quality is None
    assert score.partition.adapted_rand_error is None
    assert score.partition.variation_of_information == 0.0
    made_up = tilseg.evaluate(_row((0, 3)), _row())
    assert made_up.objects.f1 == 0.0


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("ignored", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(2))
def test_partitions_equal_scikit_image(seed, ignored, connectivity):
    shape = (71, 59)
    predicted = blobs(seed, shape, 2, ignored=ignored)
    truth = blobs(seed + 7, shape, 2, smooth=3, ignored=ignored)
    score = tilseg.evaluate(predicted, truth, connectivity=connectivity).partition
    valid = (predicted != IGNORE) & (truth != IGNORE)
    ours, theirs = (labels(m, 1 if connectivity == 4 else 2)[valid] for m in (predicted, truth))
    error, _, _ = adapted_rand_error(theirs, ours)
    split, merge = variation_of_information(theirs, ours)
    assert score.adapted_rand_error == pytest.approx(error, rel=1e-12)
    assert score.split == pytest.approx(split, abs=1e-12)
    assert score.merge == pytest.approx(merge, abs=1e-12)
    assert score.variation_of_information == pytest.approx(split + merge, abs=1e-12)
