"""Metrics of whole masks, written as their papers and scikit-image have them, without blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from skimage.segmentation import find_boundaries

IGNORE = 255


def blobs(
    seed: int,
    shape: tuple[int, int],
    classes: int = 3,
    *,
    smooth: float = 2.0,
    ignored: float = 0.0,
) -> NDArray[np.uint8]:
    """A mask with round and ragged objects, holes and single pixels."""
    rng = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(rng.standard_normal(shape), smooth) for _ in range(classes)]
    mask = np.argmax(fields, axis=0).astype(np.uint8)
    specks = rng.random(shape) < 0.01
    mask[specks] = rng.integers(0, classes, int(specks.sum()))
    if ignored:
        field = ndimage.gaussian_filter(rng.standard_normal(shape), 3)
        mask[field > np.quantile(field, 1 - ignored)] = IGNORE
    return mask


def confusion(predicted: NDArray[Any], truth: NDArray[Any], classes: list[int]) -> list[list[int]]:
    return [
        [int(np.count_nonzero((truth == row) & (predicted == col))) for col in classes]
        for row in classes
    ]


def boundary(
    predicted: NDArray[Any], truth: NDArray[Any], value: int, tolerance: float
) -> tuple[int, int, int, int]:
    """Boundary pixels of the prediction, how many are near the truth's, and the other way."""
    hidden = (predicted == IGNORE) | (truth == IGNORE)
    ours, theirs = (_outline(mask, value, hidden) for mask in (predicted, truth))
    return (
        int(ours.sum()),
        int((ours & _within(theirs, tolerance)).sum()),
        int(theirs.sum()),
        int((theirs & _within(ours, tolerance)).sum()),
    )


def _outline(mask: NDArray[Any], value: int, hidden: NDArray[np.bool_]) -> NDArray[np.bool_]:
    own = (mask == value) & ~hidden
    # Ignored pixels are counted as the class itself, so that nothing ends at them.
    return find_boundaries(own | hidden, connectivity=1, mode="inner") & own


def _within(outline: NDArray[np.bool_], tolerance: float) -> NDArray[np.bool_]:
    if not outline.any():
        return np.zeros(outline.shape, bool)
    return ndimage.distance_transform_edt(~outline) <= tolerance


@dataclass
class Found:
    true: int = 0
    false: int = 0
    missed: int = 0
    iou: float = 0.0
    shared: int = 0
    joined: int = 0


def objects(
    predicted: NDArray[Any], truth: NDArray[Any], value: int, connectivity: int = 2
) -> Found:
    """Objects of one class, pair by pair, as in Kirillov et al. 2019 and Kumar et al. 2017."""
    valid = (predicted != IGNORE) & (truth != IGNORE)
    ours, theirs = (_pieces(mask, value, connectivity) for mask in (predicted, truth))
    found, used, met = Found(), set(), set()
    for t, whole in enumerate(theirs):
        piece = whole & valid
        best, best_iou = None, 0.0
        for p, other in enumerate(ours):
            shared = int((piece & other).sum())
            iou = shared / max(1, int((piece | (other & valid)).sum()))
            if iou > best_iou:
                best, best_iou = p, iou
            if iou > 0.5:
                found.true += 1
                found.iou += iou
                met |= {("t", t), ("p", p)}
        if best is not None:
            used |= {("t", t), ("p", best)}
            found.shared += int((piece & ours[best]).sum())
            found.joined += int((piece | (ours[best] & valid)).sum())
    for kind, pieces in (("p", ours), ("t", theirs)):
        for k, piece in enumerate(pieces):
            area = int((piece & valid).sum())
            counts = area > 0 and 2 * area >= int(piece.sum())
            if counts and (kind, k) not in met:
                found.false += kind == "p"
                found.missed += kind == "t"
            if counts and (kind, k) not in used:
                found.joined += area
    return found


def _pieces(mask: NDArray[Any], value: int, connectivity: int) -> list[NDArray[np.bool_]]:
    labels = label(mask == value, connectivity=connectivity)
    return [labels == k for k in range(1, labels.max() + 1)]


def labels(mask: NDArray[Any], connectivity: int = 2) -> NDArray[Any]:
    return label(np.where(mask == IGNORE, 0, mask), connectivity=connectivity)
