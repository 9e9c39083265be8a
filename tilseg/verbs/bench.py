"""`tilseg.bench`: how fast this machine runs a model, by tile, precision and threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.calibration import calibrated
from tilseg.card import read_card
from tilseg.lanes import Lanes
from tilseg.model import Model, Precision, Ranges, load_model
from tilseg.plan import Plan
from tilseg.reading import read_filled
from tilseg.receptive_field import ReceptiveField
from tilseg.sources.planned import open_planned
from tilseg.window import Size, Window

# Inputs to try, pixels a side.
_INPUTS: dict[str, tuple[int, ...]] = {
    "cpu": (256, 384, 572, 768, 1084),
    "cuda": (572, 1084, 2048, 4096),
}


@dataclass(frozen=True, slots=True)
class Rate:
    """What one way of predicting reaches.

    tile, input: pixels that are kept, and that the network sees. at_once: tiles predicted side by
    side, on `threads` CPU threads each. pixels: kept a second. of_limit: share of what the
    machine's matrix products allow. of_halo: share of that which is left when the context of every
    tile is computed again. planned: whether the run of the plan does it so.
    """

    precision: Precision
    tile: Size
    input: Size
    at_once: int
    threads: int
    pixels: float
    of_limit: float
    of_halo: float
    planned: bool


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Rates of all ways tried, and what bounds them.

    operations: floating-point operations a pixel of a tile without end. matrices: operations a
    second of matrix products, by precision; `limit` is their ratio in pixels a second.
    """

    plan: Plan
    rates: tuple[Rate, ...]
    operations: float
    matrices: dict[Precision, float]

    def limit(self, precision: Precision) -> float:
        """Pixels a second that no tile can pass."""
        return self.matrices[precision] / self.operations


@dataclass(frozen=True, slots=True)
class _Way:
    precision: Precision
    tile: Size
    at_once: int
    threads: int


def bench(
    plan: Plan,
    *,
    seconds: float = 2.0,
    precisions: Sequence[Precision] | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> BenchReport:
    """Predict pixels from the middle of the plan's image in tiles of several sizes.

    The image is read before the clock starts; nothing is written. seconds: for each way.
    precisions: None for all that this model and this machine have. progress: called with (ways done, ways in all). Raises what opening the plan's image and
    model raises.
    """
    from tilseg.models import network
    from tilseg.models.cost import operations, operations_per_pixel

    precisions = precisions or network.precisions(plan.model, plan.device)
    ranges = _ranges(plan) if "int8" in precisions else ()
    turns = 1 if plan.tta == "none" else 8
    largest = load_model(plan.model, device=plan.device, tta=plan.tta).largest_input()
    ways = list(_ways(plan, precisions, largest))
    widest = Size(*(max(way.tile[axis] for way in ways) for axis in (0, 1)))
    pixels = _pixels(plan, widest)
    card = read_card(plan.model)
    a_pixel = turns * operations_per_pixel(card)
    measured, matrices = _measured(plan, ways, pixels, ranges, seconds, progress)

    def of(way: _Way, rate: float) -> Rate:
        size = _input(plan, way.tile)
        return Rate(
            precision=way.precision,
            tile=way.tile,
            input=size,
            at_once=way.at_once,
            threads=way.threads,
            pixels=rate,
            of_limit=rate * a_pixel / matrices[way.precision],
            of_halo=a_pixel * way.tile.area / (turns * operations(card, *size)),
            planned=way == _planned(plan),
        )

    rates = tuple(of(way, rate) for way, rate in zip(ways, measured, strict=True))
    return BenchReport(plan, rates, a_pixel, matrices)


def _measured(
    plan: Plan,
    ways: Sequence[_Way],
    pixels: NDArray[Any],
    ranges: Ranges,
    seconds: float,
    progress: Callable[[int, int], None],
) -> tuple[list[float], dict[Precision, float]]:
    """Pixels kept a second of each way, and operations a second of matrix products."""
    from tilseg.models.cost import matrix_rate

    cpus = plan.lanes * plan.threads
    measured: list[float] = []
    matrices: dict[Precision, float] = {}
    for number, way in enumerate(ways):
        progress(number, len(ways))
        model = load_model(
            plan.model,
            device=plan.device,
            precision=way.precision,
            threads=way.threads,
            tta=plan.tta,
            ranges=ranges,
        )
        rows, cols = _input(plan, way.tile)
        measured.append(prediction_rate(model, plan, pixels[:rows, :cols], way.at_once, seconds))
        # Again and again, for others may be using the machine; the limit is the best of all.
        found = matrix_rate(model.device, way.precision, cpus, seconds / 4)
        matrices[way.precision] = max(matrices.get(way.precision, 0.0), found)
    progress(len(ways), len(ways))
    return measured, matrices


def prediction_rate(
    model: Model, plan: Plan, pixels: NDArray[Any], at_once: int, seconds: float
) -> float:
    """Pixels kept a second of `at_once` predictions side by side of one input, (rows, cols, bands)
    in memory, for so many seconds."""
    batch = np.ascontiguousarray(pixels[None])

    def predict_until(end: float) -> int:
        count = 0
        while count == 0 or time.perf_counter() < end:
            kept = model.predict(batch, plan.statistics).labels[0].size
            count += kept
        return count

    lanes = Lanes(at_once)
    try:
        # The first prediction of a thread finds kernels and memory.
        wait([lanes.submit(model.predict, batch, plan.statistics) for _ in range(at_once)])
        began = time.perf_counter()
        counts = [lanes.submit(predict_until, began + seconds) for _ in range(at_once)]
        kept = sum(count.result() for count in counts)
        return kept / (time.perf_counter() - began)
    finally:
        lanes.close()


def _ranges(plan: Plan) -> Ranges:
    if plan.ranges:
        return plan.ranges
    source = open_planned(plan)
    try:
        return calibrated(plan, source).ranges
    finally:
        source.close()


def _ways(plan: Plan, precisions: Sequence[Precision], largest: int) -> Iterator[_Way]:
    """Tiles of the usual inputs up to the `largest`, as the plan predicts them and one on all
    CPUs."""
    field = plan.grid.field
    inputs = [side for side in _INPUTS[plan.device] if side <= largest]
    tiles = {plan.grid.tile} | {Size(step, step) for side in inputs if (step := _step(field, side))}
    cpus = plan.lanes * plan.threads
    for precision in precisions:
        for tile in sorted(tiles):
            for at_once, threads in sorted({(plan.lanes, plan.threads), (1, cpus)}):
                yield _Way(precision, tile, at_once, threads)


def _planned(plan: Plan) -> _Way:
    return _Way(plan.precision, plan.grid.tile, plan.lanes, plan.threads)


def _step(field: ReceptiveField, side: int) -> int:
    """The largest step of an input of at most `side`; 0 if there is none."""
    steps = range(field.stride, side + 1, field.stride)
    return max((step for step in steps if field.input_for(step) <= side), default=0)


def _input(plan: Plan, tile: Size) -> Size:
    field = plan.grid.field
    return Size(field.input_for(tile.rows), field.input_for(tile.cols))


def _pixels(plan: Plan, tile: Size) -> NDArray[Any]:
    """The input of a tile from the middle of the image, mirrored where that is smaller."""
    shape, (rows, cols) = plan.grid.shape, _input(plan, tile)
    source = open_planned(plan)
    try:
        window = Window((shape.rows - rows) // 2, (shape.cols - cols) // 2, rows, cols)
        return read_filled(plan, source, window)[0]
    finally:
        source.close()
