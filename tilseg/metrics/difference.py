"""Where two maps differ, reduced to a picture while they are read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilseg.metrics.codes import NONE
from tilseg.window import Size, Window

# What a pixel can be: without a class in either map; the same background or object class in
# both; object only in the prediction, only in the truth; two object classes.
IGNORED, BACKGROUND, OBJECT, FALSE, MISSED, CONFUSED = range(6)
_KINDS = 6


class DifferenceCounter:
    """Counts the kinds of pixels in cells of `factor` x `factor` pixels.

    longest: of the picture's sides, in cells, at most. background: code of the class that is
    no object; without one, two classes that differ are confused.
    """

    def __init__(self, shape: Size, longest: int, background: int | None) -> None:
        self.factor = -(-max(shape) // longest)
        rows, cols = (-(-side // self.factor) for side in shape)
        self.cells: NDArray[np.int64] = np.zeros((_KINDS, rows, cols), np.int64)
        self._kinds = _kinds(background)

    def add(self, window: Window, predicted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Take the codes of any window; each pixel once in all."""
        kinds = np.take(self._kinds, truth.astype(np.intp) << 8 | predicted)
        rows = np.arange(window.row, window.row_stop) // self.factor
        cols = np.arange(window.col, window.col_stop) // self.factor
        high, wide = int(rows[-1] - rows[0]) + 1, int(cols[-1] - cols[0]) + 1
        cell = (rows - rows[0])[:, None] * wide + (cols - cols[0])
        sums = np.bincount((kinds * (high * wide) + cell).ravel(), minlength=_KINDS * high * wide)
        place = (slice(None), slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
        self.cells[place] += sums.reshape(_KINDS, high, wide)


def _kinds(background: int | None) -> NDArray[np.intp]:
    """The kind of each pair of codes: (65536,), truth in the high byte."""
    truth, predicted = np.divmod(np.arange(65536), 256)
    kinds = np.full(65536, CONFUSED, np.intp)
    kinds[truth == predicted] = OBJECT
    if background is not None:
        kinds[(predicted == background) & (truth != background)] = MISSED
        kinds[(truth == background) & (predicted != background)] = FALSE
        kinds[(truth == background) & (predicted == background)] = BACKGROUND
    kinds[(truth == NONE) | (predicted == NONE)] = IGNORED
    return kinds
