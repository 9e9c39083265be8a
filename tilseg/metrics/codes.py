"""Both maps as codes 0, 1, ... of the classes they have together, read by windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.truth.class_map import IGNORED, MAX_CLASSES, ClassMap
from tilseg.window import Size, Window

# The code of a pixel without a class.
NONE = 255


@dataclass(frozen=True, slots=True)
class CodedPair:
    """A prediction and a truth on one grid.

    values: the classes of either, ascending; the code of a class is its place here.
    """

    predicted: ClassMap
    truth: ClassMap
    values: tuple[int, ...]
    table: NDArray[np.uint8]

    @property
    def shape(self) -> Size:
        return self.predicted.shape

    @property
    def background(self) -> int | None:
        """Code of the class that forms no objects; None where no pixel can have it."""
        value = self.predicted.background
        return self.values.index(value) if value in self.values else None

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Codes of prediction and truth in a window: (rows, cols) each, NONE where no class is."""
        return (
            np.take(self.table, self.predicted.read(window)),
            np.take(self.table, self.truth.read(window)),
        )


def coded_pair(predicted: ClassMap, truth: ClassMap) -> CodedPair:
    """Raises InputError E-CLASSES-MANY where both together have more classes than codes."""
    values = tuple(sorted({*predicted.values, *truth.values}))
    if len(values) > MAX_CLASSES:
        raise InputError(
            "E-CLASSES-MANY", path=predicted.path, count=len(values), allowed=MAX_CLASSES
        )
    table = np.full(IGNORED + 1, NONE, np.uint8)
    table[np.array(values, np.intp)] = np.arange(len(values), dtype=np.uint8)
    return CodedPair(predicted, truth, values, table)
