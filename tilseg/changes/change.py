"""The from-to table: how many pixels, and what area, went from each class to each."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.ahead import ahead
from tilseg.card import ClassInfo
from tilseg.changes.colors import distinct
from tilseg.changes.pair import NONE, ChangeClass, Pair
from tilseg.errors import InputError
from tilseg.metrics.confusion import joint_counts
from tilseg.regions import BlockGrid, RegionTable
from tilseg.regions.units import World, world_units
from tilseg.window import Size, Window

UNCHANGED = "unchanged"
_GREY = "#e9ecef"
# Values of uint8 that a change can have: not 0, unchanged, nor 255, nodata.
_FEW = 254


@dataclass(frozen=True, slots=True)
class Transition:
    """All pixels of class `before` that are of class `after` now.

    value: what they have in the change mask, 0 where both are one class. area: on the ground,
    None where it is not known. regions: in the table of regions, None where none were measured.
    """

    value: int
    before: str
    after: str
    color: str
    pixels: int
    area: float | None
    regions: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What changed from one map to another.

    before, after: their paths. rows, cols: of the grid of `before`, on which they are compared.
    classes: of both. transitions: those that occur, by class before and then after.
    area_unit: areas are in its square, None where they are not known.
    missing_before, missing_after: pixels without a class before; with one then and none after.
    regions: of the change mask, where it was written.
    """

    before: str
    after: str
    rows: int
    cols: int
    classes: tuple[ChangeClass, ...]
    transitions: tuple[Transition, ...]
    area_unit: str | None
    missing_before: int
    missing_after: int
    notes: tuple[str, ...]
    regions: RegionTable | None = None

    @property
    def changes(self) -> tuple[Transition, ...]:
        """The transitions between two classes, in order of their values in the mask."""
        return tuple(each for each in self.transitions if each.value)

    @property
    def pixels(self) -> int:
        """Pixels that have a class in both maps."""
        return sum(each.pixels for each in self.transitions)

    @property
    def changed_pixels(self) -> int:
        return sum(each.pixels for each in self.changes)

    @property
    def area(self) -> float | None:
        """Of the pixels compared; None where it is not known."""
        return _sum(each.area for each in self.transitions) if self.area_unit else None

    @property
    def changed_area(self) -> float | None:
        return _sum(each.area for each in self.changes) if self.area_unit else None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the change mask; its highest value is nodata."""
        return np.dtype(np.uint8 if len(self.changes) <= _FEW else np.uint16)

    @property
    def mask_classes(self) -> tuple[ClassInfo, ...]:
        """Name and colour of every value of the change mask."""
        named = ((f"{each.before} to {each.after}", each.color) for each in self.changes)
        return tuple(ClassInfo(name=n, color=c) for n, c in ((UNCHANGED, _GREY), *named))

    def with_regions(self, regions: RegionTable) -> Change:
        """The same, with the regions of its mask."""
        found = Counter(regions.columns["class"].tolist())
        counted = tuple(
            replace(each, regions=found[each.value]) if each.value else each
            for each in self.transitions
        )
        return replace(self, transitions=counted, regions=regions)

    def to_json(self) -> dict[str, Any]:
        """All of it but the regions, as plain values."""
        return {
            "before": self.before,
            "after": self.after,
            "rows": self.rows,
            "cols": self.cols,
            "area_unit": self.area_unit,
            "pixels": self.pixels,
            "area": self.area,
            "changed_pixels": self.changed_pixels,
            "changed_area": self.changed_area,
            "missing_before": self.missing_before,
            "missing_after": self.missing_after,
            "nodata": int(np.iinfo(self.dtype).max),
            "classes": [
                {**asdict(each), "before": list(each.before), "after": list(each.after)}
                for each in self.classes
            ],
            "transitions": [asdict(each) for each in self.transitions],
            "notes": list(self.notes),
        }

    def to_csv(self) -> str:
        """The transitions, one a line under their names."""
        area = f"area_{self.area_unit}2" if self.area_unit else "area"
        heads = ("value", "before", "after", "pixels", area, "regions")
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(heads)
        for each in self.transitions:
            row = (each.value, each.before, each.after, each.pixels, each.area, each.regions)
            writer.writerow(["" if cell is None else cell for cell in row])
        return file.getvalue()


def compare(
    pair: Pair, block: Size, progress: Callable[[int, int], None] = lambda *_: None
) -> Change:
    """Count the pixels of each pair of classes, and add their areas, block by block.

    Raises InputError E-CLASSES-NONE where no pixel has a class in both.
    """
    world = world_units(pair.georef, pair.shape)
    counts = np.zeros((256, 256), np.int64)
    areas: NDArray[np.float64] = np.zeros((256, 256))
    done = 0

    def count(window: Window) -> tuple[int, NDArray[np.int64], NDArray[np.float64]]:
        return window.size.area, *_counted(*pair.read(window), _weights(world, window))

    for pixels, found, area in ahead(count, BlockGrid(pair.shape, block)):
        counts += found
        areas += area
        done += pixels
        progress(done, pair.shape.area)
    if not counts[:NONE, :NONE].any():
        reason = f"no pixel has a class both here and in {pair.before.path}"
        raise InputError("E-CLASSES-NONE", path=pair.after.path, reason=reason)
    if world is not None and world.method == "planar":
        areas[:] = counts * world.pixel_area
    return Change(
        before=pair.before.path,
        after=pair.after.path,
        rows=pair.shape.rows,
        cols=pair.shape.cols,
        classes=pair.classes,
        transitions=_transitions(pair, counts, None if world is None else areas),
        area_unit=None if world is None else world.unit,
        missing_before=int(counts[NONE].sum()),
        missing_after=int(counts[:NONE, NONE].sum()),
        notes=(*pair.before.notes, *pair.after.notes),
    )


def mask_values(pair: Pair, found: Change) -> NDArray[Any]:
    """The value in the change mask of each pair of codes: (65536,), the one before in the high byte."""
    before, after = np.divmod(np.arange(65536), 256)
    table = np.zeros(65536, found.dtype)
    codes = {each.name: code for code, each in enumerate(pair.classes)}
    for each in found.changes:
        table[codes[each.before] << 8 | codes[each.after]] = each.value
    table[(before == NONE) | (after == NONE)] = np.iinfo(found.dtype).max
    return table


def _weights(world: World | None, window: Window) -> NDArray[np.float64] | None:
    """The area of each pixel, (rows, cols); None where all have the same or none is known."""
    weights = None if world is None else world.weights(window)
    if weights is not None and weights.ndim == 1:
        weights = weights[:, np.newaxis]
    return None if weights is None else np.broadcast_to(weights, window.size)


def _counted(
    before: NDArray[np.uint8], after: NDArray[np.uint8], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Pixels and area of each pair of codes: (256, 256), rows before, columns after."""
    counts = joint_counts(after, before)
    if weights is None:
        return counts, np.zeros((256, 256))
    pairs = before.astype(np.intp) << 8 | after
    areas: NDArray[Any] = np.bincount(pairs.ravel(), weights.ravel(), 65536)
    return counts, areas.reshape(256, 256)


def _transitions(
    pair: Pair, counts: NDArray[np.int64], areas: NDArray[np.float64] | None
) -> tuple[Transition, ...]:
    transitions, value = [], 0
    for old, new in np.argwhere(counts[:NONE, :NONE]):
        value += old != new
        area = None if areas is None or not np.isfinite(areas[old, new]) else areas[old, new]
        transitions.append(
            Transition(
                value=int(value) if old != new else 0,
                before=pair.classes[old].name,
                after=pair.classes[new].name,
                color=_GREY if old == new else distinct(int(value) - 1),
                pixels=int(counts[old, new]),
                area=None if area is None else float(area),
            )
        )
    return tuple(transitions)


def _sum(areas: Any) -> float | None:
    known = list(areas)
    return None if None in known else float(sum(known))
