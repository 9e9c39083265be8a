"""All metrics in one pass over the blocks of two maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.metrics.boundary import BoundaryCounts, count_boundaries, halo_of
from tilseg.metrics.codes import NONE, CodedPair
from tilseg.metrics.confusion import joint_counts
from tilseg.metrics.difference import DifferenceCounter
from tilseg.metrics.em import score_partition
from tilseg.metrics.numbered import NumberedOverlaps, Numbers
from tilseg.metrics.objects import count_objects
from tilseg.metrics.overlap import OverlapCounter, Overlaps
from tilseg.metrics.score import Score, class_scores
from tilseg.regions.components import Connectivity
from tilseg.sink import windows_of
from tilseg.window import Size, Window

# Larger ones are no faster: halos are cheap, and what is in memory stays in the caches.
BLOCK = Size(1024, 1024)


def compare(
    pair: CodedPair,
    *,
    tolerance: float = 2.0,
    connectivity: Connectivity = 2,
    numbers: Callable[[Window], Numbers] | None = None,
    differences: DifferenceCounter | None = None,
    block: Size = BLOCK,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Score:
    """The score of two maps, equal for every size of blocks.

    tolerance: of the boundary F1, in pixels. numbers: of the objects of both maps in a window,
    where they are not the pieces of the classes. differences: takes every block too. progress:
    called with (pixels done, pixels in all). Memory holds a block with its halo, a row of
    pixels, and a few numbers an object.

    Raises InputError E-CLASSES-NONE where no pixel has a class in both maps, and what reading
    the maps raises.
    """
    whole = Window.whole(pair.shape)
    reach = halo_of(tolerance)
    confusion = np.zeros((256, 256), np.int64)
    boundaries = _no_boundaries()
    pieces = OverlapCounter(pair.shape, pair.background, connectivity)
    numbered = NumberedOverlaps()
    done = 0
    for window in windows_of(pair.shape, block):
        wide = Window(
            window.row - reach, window.col - reach, window.rows + 2 * reach, window.cols + 2 * reach
        ).intersection(whole)
        core = window.relative_to(wide)
        predicted, truth = pair.read(wide)
        ours, theirs = predicted[core.slices], truth[core.slices]
        confusion += joint_counts(ours, theirs)
        if numbers is None:
            pieces.add(window, ours, theirs)
        else:
            numbered.add(*numbers(window))
        if differences is not None:
            differences.add(window, ours, theirs)
        # What is ignored is no class that a boundary could lie beside.
        hidden = (predicted == NONE) | (truth == NONE)
        predicted[hidden] = truth[hidden] = NONE
        boundaries += count_boundaries(predicted, truth, core, tolerance)
        done += window.size.area
        progress(done, whole.size.area)
    table = pieces.finish() if numbers is None else numbered.finish()
    neighbours = None if numbers is not None else 4 if connectivity == 1 else 8
    return _score(pair, confusion, boundaries, table, tolerance, neighbours)


def _score(
    pair: CodedPair,
    confusion: NDArray[np.int64],
    boundaries: BoundaryCounts,
    table: Overlaps,
    tolerance: float,
    neighbours: int | None,
) -> Score:
    predicted, truth, count = pair.predicted, pair.truth, len(pair.values)
    matrix = confusion[:count, :count]
    if not matrix.any():
        reason = f"no pixel has a class both here and in {predicted.path}"
        raise InputError("E-CLASSES-NONE", path=truth.path, reason=reason)
    by_class, everything = count_objects(table, count)
    objects = [None if code == pair.background else by_class[code] for code in range(count)]
    return Score(
        prediction=predicted.path,
        truth=truth.path,
        rows=pair.shape.rows,
        cols=pair.shape.cols,
        classes=class_scores(
            pair.values,
            {**predicted.names, **truth.names},
            {**predicted.colors, **truth.colors},
            matrix,
            boundaries,
            objects,
        ),
        confusion=tuple(tuple(row) for row in matrix.tolist()),
        ignored=int(confusion[NONE].sum()),
        not_predicted=int(confusion[:count, NONE].sum()),
        background=predicted.background if pair.background is not None else None,
        objects=everything,
        partition=score_partition(table),
        tolerance=tolerance,
        neighbours=neighbours,
        notes=(*predicted.notes, *truth.notes),
    )


def _no_boundaries() -> BoundaryCounts:
    return BoundaryCounts(*np.zeros((4, 256), np.int64))
