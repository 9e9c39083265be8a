"""Objects that maps number: against definitions and scikit-image on the whole, in every block."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_oracle import blobs
from scipy.ndimage import distance_transform_edt
from scipy.stats import entropy
from skimage.measure import label
from skimage.metrics import adapted_rand_error, contingency_table, variation_of_information
from skimage.segmentation import watershed
from tiny import save_tiny_model

import tilseg
from tilseg.errors import InputError, UsageError
from tilseg.metrics.codes import coded_pair
from tilseg.metrics.compare import compare
from tilseg.metrics.numbered import NumberedOverlaps
from tilseg.metrics.objects import count_objects
from tilseg.truth.numbered import open_numbered
from tilseg.window import Size, Window


def _cells(seed: int, shape: tuple[int, int], seeds: int = 25) -> np.ndarray:
    """A label image of objects that touch, with gaps in their numbers."""
    rng = np.random.default_rng(seed)
    mask = blobs(seed, shape, 2, smooth=4) > 0
    markers = np.zeros(shape, np.int32)
    markers[tuple(rng.integers(0, shape, (seeds, 2)).T)] = 3 * np.arange(1, seeds + 1)
    return watershed(-distance_transform_edt(mask), markers, mask=mask).astype(np.uint16)


def _iou_table(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(truth, predicted) IoU of all objects, from whole images."""
    ours, theirs = (
        [image == number for number in np.unique(image) if number] for image in (predicted, truth)
    )
    return np.array([[(t & p).sum() / (t | p).sum() for p in ours] for t in theirs])


@pytest.mark.parametrize("seed", range(3))
def test_objects_and_partition_equal_the_definitions(seed):
    shape = (79, 97)
    truth, predicted = _cells(seed, shape), _cells(seed, shape, seeds=31)
    predicted[: shape[0] // 2] = np.where(truth[: shape[0] // 2], truth[: shape[0] // 2] + 100, 0)
    score = tilseg.evaluate(predicted, truth, objects=True)
    iou = _iou_table(predicted, truth)
    matched = int((iou > 0.5).sum())
    counts = score.objects
    assert counts.true_positives == matched > 3
    assert counts.false_positives == iou.shape[1] - matched
    assert counts.false_negatives == iou.shape[0] - matched
    assert counts.matched_iou == pytest.approx(iou[iou > 0.5].sum(), rel=1e-12)
    partition = score.partition
    error, _, _ = adapted_rand_error(truth, predicted)
    assert partition.adapted_rand_error == pytest.approx(error, rel=1e-9)
    assert partition.v_rand == pytest.approx(1 - error, rel=1e-9)
    split, merge = variation_of_information(truth, predicted)
    assert partition.variation_of_information == pytest.approx(split + merge, rel=1e-9)
    assert partition.v_info == pytest.approx(_v_info(truth, predicted), rel=1e-9)
    assert score.classes[1].dice == pytest.approx(
        2
        * np.count_nonzero(truth * predicted)
        / (np.count_nonzero(truth) + np.count_nonzero(predicted))
    )
    assert score.neighbours is None


def _v_info(truth: np.ndarray, predicted: np.ndarray) -> float:
    """2 I / (H + H) by scipy, over the pixels that the truth gives to objects."""
    inside = truth > 0
    joint = contingency_table(truth[inside], predicted[inside]).toarray()
    apart = entropy(joint.sum(0)) + entropy(joint.sum(1))
    return 2 * (apart - entropy(joint.ravel())) / apart


@pytest.mark.parametrize("connectivity", [4, 8])
def test_v_info_of_masks_is_that_of_their_pieces(connectivity):
    truth, predicted = blobs(5, (83, 61), 2), blobs(6, (83, 61), 2)
    score = tilseg.evaluate(predicted, truth, connectivity=connectivity)
    theirs, ours = (
        label(m, connectivity=1 if connectivity == 4 else 2) for m in (truth, predicted)
    )
    assert score.partition.v_info == pytest.approx(_v_info(theirs, ours), rel=1e-9)


def test_v_info_of_one_object_is_unknown():
    whole = np.ones((7, 11), np.uint8)
    assert tilseg.evaluate(whole, whole, objects=True).partition.v_info is None


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**31), st.integers(1, 41), st.integers(1, 53), st.integers(3, 19), st.booleans()
)
def test_the_blocks_do_not_matter(seed, rows, cols, block, hidden):
    rng = np.random.default_rng(seed)
    shape = (rows, cols)
    maps = [
        np.kron(rng.integers(0, 6, shape), np.ones((3, 2), int))[:rows, :cols] * 7 for _ in "12"
    ]
    maps[0][0, 0] = maps[1][0, 0] = 7
    opened = [open_numbered(each, [14] if hidden else None) for each in maps]
    pair = coded_pair(*opened)

    def score(side):
        return compare(
            pair,
            numbers=lambda window: tuple(each.numbers(window) for each in opened),
            block=Size(side, side + 2),
        )

    assert score(block) == score(1000)


def test_what_is_ignored_is_no_part_of_an_object():
    truth = np.array([[1, 1, 1, 1, 9, 9]], np.uint8)
    predicted = np.array([[5, 5, 9, 9, 9, 3]], np.uint8)
    score = tilseg.evaluate(predicted, truth, objects=True, ignore=(9,))
    # Of object 1 half is left, and 3 lies where nothing is known: more than half of it.
    assert score.ignored == 2
    assert score.not_predicted == 2
    assert (score.objects.true_positives, score.objects.false_positives) == (1, 0)


def test_touching_objects_are_apart_and_pieces_of_one_are_together():
    truth = np.array([[1, 1, 2, 2, 0, 2]])
    assert tilseg.evaluate(truth, truth, objects=True).objects.true_positives == 2
    joined = (truth > 0).astype(np.uint8)
    assert tilseg.evaluate(joined, joined).objects.true_positives == 2
    assert tilseg.evaluate(joined, truth, objects=True).objects.true_positives == 1


def test_a_result_is_scored_by_its_labels(tmp_path):
    image = np.kron(np.eye(7, 9, dtype=np.uint8) * 200, np.ones((17, 13), np.uint8))
    tifffile.imwrite(tmp_path / "image.tif", np.dstack([image] * 3), photometric="rgb")
    save_tiny_model(tmp_path / "tiny.safetensors")
    plan = tilseg.make_plan(
        tilseg.open_source(tmp_path / "image.tif"),
        tilseg.load_model(tmp_path / "tiny.safetensors"),
        regions=tilseg.RegionOptions(labels=True),
    )
    tilseg.run(plan, tmp_path / "image.tilseg")
    numbers = open_numbered(tmp_path / "image.tilseg").numbers
    whole = numbers(Window(0, 0, *image.shape))
    tifffile.imwrite(tmp_path / "truth.tif", whole.astype(np.uint16))
    for result in ("image.tilseg", "image.tilseg/labels.zarr"):
        score = tilseg.evaluate(tmp_path / result, tmp_path / "truth.tif", objects=True)
        assert score.objects.f1 == 1
        assert score.objects.true_positives == whole.max() > 0


def test_refusals(tmp_path):
    (tmp_path / "mask.zarr").mkdir()
    small = np.ones((5, 7), np.uint8)
    for image, expected in (
        (tmp_path, "E-OBJECTS-NONE"),
        (np.ones((5, 7), np.float32), "E-CLASSES-DTYPE"),
        (np.ones((5, 8), np.uint8), "E-CLASSES-GRID"),
        (np.ones((5, 7, 3), np.uint8), "E-INPUT-SHAPE"),
    ):
        with pytest.raises(InputError) as caught:
            tilseg.evaluate(small, image, objects=True)
        assert caught.value.id == expected
    with pytest.raises(UsageError, match="objects"):
        tilseg.evaluate(small, small, objects=True, align=True)


def test_nothing_has_no_objects():
    none = NumberedOverlaps().finish()
    assert count_objects(none, 2)[1].f1 is None
