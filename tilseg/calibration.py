"""What a run in 8-bit integers must know before it begins: how large the values of a network get."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise, product

from tilseg.errors import InputError, ModelError
from tilseg.model import load_model
from tilseg.plan import Plan
from tilseg.reading import read_filled
from tilseg.source import Source
from tilseg.where.chosen import Chosen
from tilseg.window import Size, Window

# Windows that are predicted in float32: so many, fewer of an image of which they are more than a
# share, of cells of an even lattice, and pixels a side that are kept of each. They depend on the
# image and on what is segmented of it, never on tiles.
_WINDOWS = 4, 16
_SHARE = 1 / 20
_CELLS_A_SIDE = 8
_SIDE = 128


def calibrated(plan: Plan, source: Source) -> Plan:
    """`plan` with the ranges that its network's maps take on windows spread over the image.

    source: on the plan's grid. Raises what loading the model raises, what reading raises where no
    window can be read, and ModelError E-PRECISION-RANGE where the maps are finite on none.
    """
    from tilseg.models.int8 import Observer
    from tilseg.models.torch_model import TorchModel

    # On as many threads as there are: nothing else is to be done yet.
    model = load_model(plan.model, device=plan.device, precision="int8", tta=plan.tta)
    assert isinstance(model, TorchModel)
    assert isinstance(model.network, Observer)
    failed: InputError | None = None
    for window in windows(plan):
        try:
            pixels, _ = read_filled(plan, source, _seen(plan, window))
        except InputError as error:
            failed = error
            continue
        model.predict(pixels[None], plan.statistics)
    if failed and not model.network.ranges:
        raise failed
    if not model.network.ranges:
        raise ModelError("E-PRECISION-RANGE", path=plan.model, precision=plan.precision)
    return replace(plan, ranges=model.network.ranges)


def windows(plan: Plan) -> list[Window]:
    """Small windows that hold something to segment, spread evenly over the image."""
    chosen = Chosen(plan.selection, plan.grid.shape)
    cells = [cell for cell in _cells(plan.grid.shape) if chosen.reason_to_skip(cell) is None]
    few, many = _WINDOWS
    count = min(max(few, int(_SHARE * plan.grid.shape.area / _SIDE**2)), many, len(cells))
    taken = [cells[int((k + 0.5) * len(cells) / count)] for k in range(count)]
    return [_narrowed(cell, chosen) for cell in taken]


def _cells(shape: Size) -> Iterator[Window]:
    rows, cols = (
        [part * side // parts for part in range(parts + 1)]
        for side in shape
        for parts in [min(_CELLS_A_SIDE, -(-side // _SIDE))]
    )
    for (top, bottom), (left, right) in product(pairwise(rows), pairwise(cols)):
        yield Window(top, left, bottom - top, right - left)


def _narrowed(cell: Window, chosen: Chosen) -> Window:
    """A part of `cell` of at most `_SIDE` pixels a side with something to segment, if it has any."""
    while max(cell.size) > _SIDE:
        rows, cols = (-(-side // 2) for side in cell.size)
        corners = product((cell.row, cell.row_stop - rows), (cell.col, cell.col_stop - cols))
        quarters = [Window(row, col, rows, cols) for row, col in corners]
        cell = next((part for part in quarters if chosen.reason_to_skip(part) is None), quarters[0])
    return cell


def _seen(plan: Plan, window: Window) -> Window:
    """What the network sees to predict `window`, or a little more."""
    field = plan.grid.field
    rows, cols = (field.input_for(field.step_covering(side)) for side in window.size)
    return Window(window.row - field.halo, window.col - field.halo, rows, cols)
