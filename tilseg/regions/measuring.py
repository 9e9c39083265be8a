"""How the blocks of one mask are measured, and their tables made the regions of the whole.

`tilseg.run` and `tilseg.measure` both go through here: the same mask gives the same table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.card import Card
from tilseg.errors import UsageError
from tilseg.georef import Georef
from tilseg.plan import Plan, RegionOptions
from tilseg.regions.block import BlockTable, measure_block
from tilseg.regions.components import Connectivity
from tilseg.regions.grid import BlockGrid
from tilseg.regions.merge import merge
from tilseg.regions.region_table import RegionTable
from tilseg.regions.units import World, world_units
from tilseg.source import Source
from tilseg.window import Window

# Unit of area -> unit of length and how many of its squares it is.
_AREAS = {
    "um2": ("um", 1.0),
    "mm2": ("um", 1e6),
    "m2": ("m", 1.0),
    "ha": ("m", 1e4),
    "km2": ("m", 1e6),
}


@dataclass(frozen=True, slots=True)
class Measuring:
    """Everything that decides the regions of a mask, beside its pixels and those of its image.

    options: None to measure the areas of classes alone, which are 0 to `classes` - 1.
    nodata, background: see `Rules`. world: how pixels measure; None where that is not known.
    """

    grid: BlockGrid
    options: RegionOptions | None
    nodata: int | None
    background: int | None
    classes: int
    world: World | None

    @classmethod
    def on(
        cls,
        georef: Georef,
        grid: BlockGrid,
        options: RegionOptions | None,
        *,
        nodata: int | None,
        background: int | None,
        classes: int = 0,
    ) -> Measuring:
        """How to measure a mask that lies at `georef`.

        Raises UsageError E-REGION-UNIT where the least area is in a unit that it does not have.
        """
        world = world_units(georef, grid.shape)
        if options is not None and options.area_unit != "px":
            unit, _ = _AREAS[options.area_unit]
            if world is None or world.unit != unit:
                value = f"{options.min_area:g}{options.area_unit}"
                known = "of no known size" if world is None else f"measured in {world.unit}"
                raise UsageError("E-REGION-UNIT", value=value, known=known)
        return cls(grid, options, nodata, background, classes, world)

    @classmethod
    def of_run(cls, plan: Plan, source: Source, card: Card, nodata: int) -> Measuring:
        """How a run of `plan` measures its mask, the same in every process."""
        level = source.levels[plan.level]
        return cls.on(
            source.georef.decimated(level.row_factor, level.col_factor),
            BlockGrid(plan.grid.shape, plan.grid.block),
            plan.regions,
            nodata=nodata,
            background=card.background,
            classes=len(card.classes),
        )

    @property
    def connectivity(self) -> Connectivity:
        """As in `Rules`."""
        return 1 if self.options is not None and self.options.connectivity == 4 else 2

    def of_instances(self) -> Measuring:
        """The same for a map of the mask's instances, whose every value but 0 is one."""
        assert self.options is not None
        options = replace(self.options, instances=None, only=())
        return replace(self, options=options, nodata=None, background=0, classes=0)

    def block(
        self, labels: NDArray[Any], window: Window, image: NDArray[Any] | None
    ) -> tuple[BlockTable | None, tuple[float, ...]]:
        """The table of one block, and the area of each class in it.

        The table is None where no regions are wanted, or those of instances, which no block knows
        by itself; areas are () where a pixel's is the same
        everywhere or not known. See `measure_block` for arrays and errors.
        """
        weights = None if self.world is None else self.world.weights(window)
        areas = _class_areas(labels, weights, self.classes)
        if self.options is None or self.options.instances is not None:
            return None, areas
        table = measure_block(
            labels,
            window,
            shape=self.grid.shape,
            nodata=self.nodata,
            background=self.background,
            connectivity=self.connectivity,
            image=image,
            weights=weights,
            with_hull=self.options.shape,
        )
        return table, areas

    def merge(self, tables: Iterable[BlockTable]) -> RegionTable:
        """The regions of the whole mask, in its world, without those that are not wanted."""
        regions = merge(tables, self.grid)
        if self.world is not None:
            regions = self.world.describe(regions)
        if self.options is None or not (self.options.min_area or self.options.only):
            return regions
        least, unit = self.options.min_area, self.options.area_unit
        area = regions.columns["area"]
        if unit != "px":
            length, squares = _AREAS[unit]
            area, least = regions.columns[f"area_{length}2"], least * squares
        keep = area >= least
        if self.options.only:
            keep &= np.isin(regions.columns["class"], self.options.only)
        return regions.select(keep)


def _class_areas(
    labels: NDArray[Any], weights: NDArray[np.float64] | None, classes: int
) -> tuple[float, ...]:
    if weights is None:
        return ()
    if weights.ndim == 1:
        rows = (np.count_nonzero(labels == value, axis=1) for value in range(classes))
        return tuple(math.fsum(counts * weights) for counts in rows)
    return tuple(float(weights[labels == value].sum()) for value in range(classes))
