"""The polygons of a table's regions, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from tilseg.card import ClassInfo
from tilseg.errors import OutputError
from tilseg.polygons.outlines import Outlines, batches
from tilseg.polygons.placing import Place
from tilseg.regions import RegionTable

_Ints = NDArray[np.int64]

# Of a batch, and so of a row group.
_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Shapes:
    """Regions with their outlines, places and names, as all formats take them.

    classes: name and colour of each class by its value; () where they are not known.
    key: what tells one mask from another, for identifiers.
    taken: called with the share of the regions that has been. simplified: all polygons, where
    they were simplified; else they are made as they are asked for.
    """

    regions: RegionTable
    outlines: Outlines
    place: Place
    classes: tuple[ClassInfo, ...]
    key: str
    taken: Callable[[float], None]
    simplified: NDArray[Any] | None = None

    def simplify(self, tolerance: float) -> Shapes:
        """The same with outlines simplified by about `tolerance` pixels, all in memory at once.

        The common side of two regions stays common (Visvalingam and Whyatt's way, applied to
        the whole coverage by GEOS). Corners that stay are corners of pixels.
        """
        every = [polygons for _, polygons in self.batches(np.arange(len(self.regions)))]
        polygons = np.concatenate([np.zeros(0, dtype=object), *every])
        return replace(self, simplified=shapely.coverage_simplify(polygons, tolerance))

    def batches(self, order: _Ints) -> Iterator[tuple[_Ints, NDArray[Any]]]:
        """Rows of the table in `order` with their polygons in pixels; never many at once.

        Raises OutputError E-OUTPUT-READBACK where the mask is not the one that was measured.
        """
        for first, last in batches(self.outlines.corners()[order], _ROWS):
            rows = order[first:last]
            if self.simplified is not None:
                yield rows, self.simplified[rows]
                self.taken(last / len(order))
                continue
            polygons, areas = self.outlines.polygons(rows + 1)
            if not np.array_equal(areas, self.regions.columns["area"][rows]):
                reason = "the mask has other regions than its table"
                raise OutputError("E-OUTPUT-READBACK", path="polygons", reason=reason)
            yield rows, polygons
            self.taken(last / len(order))

    def columns(self, rows: _Ints) -> dict[str, pa.Array]:
        """The table's columns, and the names of classes where they are known."""
        columns = {name: pa.array(v[rows]) for name, v in self.regions.columns.items()}
        if self.classes:
            columns["class_name"] = pa.array(
                map(self.class_name, columns["class"].to_pylist()), pa.string()
            )
        return columns

    def class_name(self, value: int) -> str:
        """The name of a class, or its value where it has none."""
        return self.classes[value].name if value < len(self.classes) else f"class {value}"


def along_hilbert_curve(regions: RegionTable) -> _Ints:
    """Rows of the table so that neighbours on the map are neighbours in the file.

    By the middles of their boxes on a Hilbert curve of 2^16 x 2^16 places, then by number. The
    curve's index follows from the bits of x and y: Warren, Hacker's Delight, 2nd ed., 16-2.
    """
    box = [regions.columns[f"bbox-{side}"] for side in range(4)]
    side = max(regions.grid.shape)
    x, y = ((box[0 + axis] + box[2 + axis]) * (2**15) // side for axis in (1, 0))
    index = np.zeros(len(regions), dtype=np.int64)
    for bit in range(15, -1, -1):
        right, low = (x >> bit) & 1, (y >> bit) & 1
        index = index << 2 | (3 * right) ^ low
        # The quarter's curve begins in its own corner.
        swap, flip = low == 0, right == 1
        mirror = (1 << 16) - 1
        x, y = np.where(swap & flip, mirror - x, x), np.where(swap & flip, mirror - y, y)
        x, y = np.where(swap, y, x), np.where(swap, x, y)
    return np.argsort(index, kind="stable")


def check_same(path: Path, written: int, read: int) -> None:
    """Raise OutputError E-OUTPUT-READBACK where a file is not as it was written, by its CRC."""
    if written != read:
        raise OutputError("E-OUTPUT-READBACK", path=path, reason="other bytes")
