"""How far the labels of the ISBI 2012 stack lie off its images.

    python offset.py ISBI2012 NN...

Prints, for each slice NN and for all together, by how many rows and columns an image is to be moved to
agree best with its labels: cells are bright, and membranes dark.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, shift
from scipy.optimize import minimize

_SMOOTH = 1.0
_EDGE = 4


def moved(image: np.ndarray, offset: tuple[float, float]) -> np.ndarray:
    """(rows, cols) uint8, moved by rows and columns; cubic splines, mirrored beyond the edge."""
    pixels = shift(image.astype(np.float64), offset, order=3, mode="mirror")
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def offset(images: list[np.ndarray], labels: list[np.ndarray]) -> np.ndarray:
    """(2,): rows and columns of the highest mean correlation."""

    def disagreement(by: np.ndarray) -> float:
        pairs = zip(images, labels, strict=True)
        return -float(np.mean([_correlation(moved(image, by), label) for image, label in pairs]))

    # Steps of a pixel to begin with: of tiny ones the rounding of pixels hides the effect.
    options = {"initial_simplex": [(0, 0), (1, 0), (0, 1)], "xatol": 0.01, "fatol": 1e-6}
    found = minimize(disagreement, (0, 0), method="Nelder-Mead", options=options)
    return found.x


def _correlation(image: np.ndarray, label: np.ndarray) -> float:
    inside = (slice(_EDGE, -_EDGE),) * 2
    smooth = (gaussian_filter(each.astype(np.float64), _SMOOTH)[inside] for each in (image, label))
    return float(np.corrcoef(*(each.ravel() for each in smooth))[0, 1])


def main() -> None:
    folder, *names = sys.argv[1:]
    images, labels = (
        [np.asarray(Image.open(Path(folder, part, f"{name}.png"))) for name in names]
        for part in ("image", "label")
    )
    for name, image, label in zip(names, images, labels, strict=True):
        print(name, "{:+.2f} rows {:+.2f} columns".format(*offset([image], [label])))
    print("all", "{:+.2f} rows {:+.2f} columns".format(*offset(images, labels)))


if __name__ == "__main__":
    main()
