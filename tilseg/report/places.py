"""Which places of a result are worth a close look: regions by size and by chance, and doubt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.regions import RegionTable
from tilseg.sinks.probabilities import ProbabilityStore
from tilseg.window import Size, Window

_LARGEST, _SMALLEST, _RANDOM, _DOUBTFUL = 2, 2, 4, 4
# Pixels a side: of the least and the largest window, and of those in doubt.
_LEAST, _MOST, _DOUBT_SIDE = 48, 320, 160
_SEED = 0


@dataclass(frozen=True, slots=True)
class Place:
    """A window of the mask's grid, inside the image. why: the kind of place. row: of the region in
    the table, if it is one's; box: round the region, seen from the window's corner. doubt: 0 to 1,
    of the pixel that was found."""

    why: str
    window: Window
    row: int | None = None
    box: Window | None = None
    doubt: float | None = None


def choose_places(
    regions: RegionTable | None, probabilities: ProbabilityStore | None, shape: Size
) -> list[Place]:
    """The places of a result on a grid of `shape`; the same for the same result."""
    found = [] if regions is None else _of_regions(regions, shape)
    return found if probabilities is None else found + _in_doubt(probabilities)


def _of_regions(regions: RegionTable, shape: Size) -> list[Place]:
    order = np.argsort(regions.columns["area"], kind="stable")
    largest = order[::-1][:_LARGEST]
    smallest = order[: min(_SMALLEST, len(order) - len(largest))]
    others = order[len(smallest) : len(order) - len(largest)]
    count = min(_RANDOM, len(others))
    chosen = np.random.default_rng(_SEED).choice(others, count, replace=False)
    kinds = (("largest", largest), ("smallest", smallest), ("random", np.sort(chosen)))
    return [
        _of_region(why, regions.columns, int(row), shape) for why, rows in kinds for row in rows
    ]


def _of_region(why: str, columns: dict[str, NDArray[Any]], row: int, shape: Size) -> Place:
    """A square with the region in its middle, or with the middle of one that is larger."""
    top, left, bottom, right = (int(columns[f"bbox-{side}"][row]) for side in range(4))
    most = min(_MOST, max(_LEAST, max(shape) // 3))
    side = min(max(_LEAST, 2 * max(bottom - top, right - left)), most)
    window = square((top + bottom) // 2, (left + right) // 2, side, shape)
    box = Window(top, left, bottom - top, right - left).relative_to(window)
    return Place(why, window, row, box)


def square(row: int, col: int, side: int, shape: Size) -> Window:
    """A window of `side` pixels about a place, moved to lie inside `shape`, or all of that."""
    rows, cols = (min(side, length) for length in shape)
    top = min(max(0, row - rows // 2), shape.rows - rows)
    left = min(max(0, col - cols // 2), shape.cols - cols)
    return Window(top, left, rows, cols)


def _in_doubt(probabilities: ProbabilityStore) -> list[Place]:
    """Where the two likeliest classes are closest, in places that do not overlap.

    Looked for among every so many pixels, those of the pyramid's last level.
    """
    pixels, step = probabilities.read_coarsest()
    values, shape = np.sort(pixels.astype(np.int64), axis=2), probabilities.shape
    doubt = np.where(values[..., -1] > 0, 255 - (values[..., -1] - values[..., -2]), -1)
    found: list[Place] = []
    while len(found) < _DOUBTFUL and doubt.max() >= 0:
        row, col = map(int, np.unravel_index(np.argmax(doubt), doubt.shape))
        window = square(row * step, col * step, _DOUBT_SIDE, shape)
        found.append(Place("in doubt", window, doubt=int(doubt[row, col]) / 255))
        near = -(-_DOUBT_SIDE // step)
        doubt[max(0, row - near) : row + near + 1, max(0, col - near) : col + near + 1] = -1
    return found
