"""Pixel weights that keep touching objects apart: Ronneberger et al. 2015, arXiv:1505.04597,
equation 2."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects
from skimage.measure import label

from tilseg.training.samples import IGNORE

# Beyond this many sigma of d1 + d2 the border term is below 1e-13 of w0, and left out.
_REACH = 8


def objects_of(labels: NDArray[np.uint8]) -> NDArray[np.integer]:
    """The objects of a class mask (rows, cols), numbered from 1: 4-connected pixels of one class.

    0 is the ground, and pixels without a label count as ground.
    """
    found: NDArray[np.integer] = label(np.where(labels == IGNORE, 0, labels), connectivity=1)
    return found


def border_weights(
    objects: NDArray[np.integer],
    *,
    foreground: float = 1.0,
    background: float = 1.0,
    w0: float = 10.0,
    sigma: float = 5.0,
) -> NDArray[np.float64]:
    """w(x) = wc(x) + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) of every pixel: (rows, cols) float64.

    objects: (rows, cols), 0 the background, each object a number of its own. d1, d2: distances
    in pixels, centre to centre, to the nearest and the second nearest object, 0 inside; without
    a second object there is no border. wc: `foreground` inside objects, `background` outside.
    """
    nearest = np.full((2, *objects.shape), np.inf)
    for number, box in enumerate(find_objects(objects), start=1):
        if box is not None:
            _take_in(nearest, objects, number, box, math.ceil(_REACH * sigma))
    border = w0 * np.exp(-((nearest[0] + nearest[1]) ** 2) / (2 * sigma**2))
    weights: NDArray[np.float64] = np.where(objects > 0, foreground, background) + border
    return weights


def _take_in(
    nearest: NDArray[np.float64],
    objects: NDArray[np.integer],
    number: int,
    box: tuple[slice, slice],
    reach: int,
) -> None:
    """Sort the distances to one object in among the two least, as far as they matter."""
    near = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in box)
    distance: NDArray[np.float64] = distance_transform_edt(objects[near] != number)
    first, second = nearest[0][near], nearest[1][near]
    second[...] = np.minimum(second, np.maximum(first, distance))
    first[...] = np.minimum(first, distance)
