"""The image of a plan, as its blocks read it."""

from __future__ import annotations

import math

from tilseg.georef import Factors
from tilseg.plan import Plan, TileGrid
from tilseg.source import Source, reopen_source
from tilseg.sources.resampled import finer_level, on_grid
from tilseg.sources.rows import WholeRows


def open_planned(plan: Plan) -> Source:
    """The image of a plan, on the grid that it is segmented on; raises as `reopen_source` does."""
    return as_planned(reopen_source(plan.source), plan)


def as_planned(image: Source, plan: Plan) -> Source:
    """The image of a plan, opened already, as its blocks read it."""
    rows = in_whole_rows(image, plan.level, plan.bands, plan.factors, plan.grid)
    return on_grid(rows if plan.keep_rows and rows is not None else image, plan.factors)


def in_whole_rows(
    image: Source, level: int, bands: tuple[int, ...], factors: Factors | None, grid: TileGrid
) -> WholeRows | None:
    """`image` read in whole rows for the blocks of `grid`; None where that spares nothing."""
    rows = grid.read.rows
    if factors is not None:
        level = finer_level(image.levels, factors)
        # And what a mean sees of the pixels beside it.
        rows = math.ceil(rows * factors.rows / image.levels[level].row_factor) + 3
    if not image.levels[level].strip or grid.block_counts.cols == 1:
        return None
    return WholeRows(image, level, bands, rows)
