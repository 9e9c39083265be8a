"""The ellipse task: find ellipses among rectangles and crosses of the same brightness."""

from __future__ import annotations

import numpy as np
from skimage.draw import disk, ellipse, polygon

from tilseg.card import Normalization
from tilseg.source import open_source
from tilseg.statistics import band_statistics
from tilseg.training.samples import IGNORE, Sample, in_memory, make_sample
from tilseg.truth.raster import open_raster


def shapes(rows: int, cols: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image (rows, cols) uint8 and its classes: 1 where an ellipse is, else 0."""
    rng = np.random.default_rng(seed)
    image, labels = np.full((rows, cols), 60.0), np.zeros((rows, cols), np.uint8)
    free = np.ones((rows, cols), bool)
    for number in range(rows * cols // 250):
        centre = rng.integers(0, (rows, cols))
        near = disk(centre, 14, shape=(rows, cols))
        if not free[near].all():
            continue
        free[near] = False
        kind = number % 3
        place = _shape(kind, centre, rng, (rows, cols))
        image[place] = 150
        labels[place] = kind == 0
    image += rng.normal(0, 12, image.shape)
    return image.clip(0, 255).astype(np.uint8), labels


def _shape(kind, centre, rng, shape):
    radii, angle = rng.uniform(6, 10, 2), rng.uniform(0, np.pi)
    if kind == 0:
        return ellipse(*centre, *radii, shape=shape, rotation=angle)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if kind == 1:
        corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * 0.85
    else:
        arm = 0.35
        quarter = np.array([[-1, -arm], [-1, arm], [-arm, arm]])
        corners = np.concatenate([quarter @ _TURN[k] for k in range(4)])
    points = (corners * radii) @ turn + centre
    return polygon(points[:, 0], points[:, 1], shape=shape)


# Quarter turns that walk round the cross from its top arm.
_TURN = [np.linalg.matrix_power(np.array([[0, -1], [1, 0]]), k) for k in range(4)]


def sample_of(image: np.ndarray, labels: np.ndarray, name: str = "image") -> Sample:
    """Arrays as a sample in memory, normalised by their own mean and deviation."""
    source = open_source(np.ascontiguousarray(image, np.uint8))
    statistics = band_statistics(source, Normalization(kind="image"), bands=range(source.bands))
    classes = open_raster(np.ascontiguousarray(labels, np.uint8), ignore=(IGNORE,))
    group = name.rpartition("/")[0]
    return in_memory(make_sample(name, source, classes, statistics=statistics, group=group))
