"""Objects that touch told apart, by rules that do not depend on the blocks of a mask.

`find_instances` gives a map of instances, `measure_instances` their table: the regions of a map
whose every instance is a value of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.ahead import ahead
from tilseg.durable import remove
from tilseg.instance_rule import Border, InstanceRule
from tilseg.instances.border import grown_back
from tilseg.instances.raster import InMemory, InstanceMap, Mask, Store
from tilseg.instances.watershed import watershed
from tilseg.regions.block import BlockTable
from tilseg.regions.components import Connectivity
from tilseg.regions.grid import BlockGrid
from tilseg.regions.measuring import Measuring
from tilseg.regions.region_table import RegionTable
from tilseg.sinks.shards import BlockArray
from tilseg.window import Size, Window

__all__ = ["InstanceMap", "find_in_memory", "find_instances", "measure_instances"]

# Of the blocks in which instances are looked for, whatever those of the mask are.
BLOCK = Size(1024, 1024)

Report = Callable[[int, int], None]


def find_instances(
    read: Callable[[Window], NDArray[Any]],
    measuring: Measuring,
    rule: InstanceRule,
    folder: Path,
    report: Report = lambda *_: None,
    block: Size = BLOCK,
) -> InstanceMap:
    """The instances of a mask of class values, by `rule`; the same for every `block`.

    read: (rows, cols) integers of a window of the mask. measuring: of its regions. folder: for
    what waits between the passes over the mask, made anew; the map that is returned reads it. report: called with (pixels done, pixels).

    Raises OutputError E-OUTPUT-WRITE, and what reading raises.
    """
    grid = BlockGrid(measuring.grid.shape, block)
    mask = Mask(read, grid, measuring.nodata, measuring.background)
    remove(folder)
    names = ("seeds", "pieces") if isinstance(rule, Border) else ("pieces",)
    arrays = [BlockArray.create(folder / n, grid.shape, block, dtype=np.uint32) for n in names]
    pixels = 0

    def done(window: Window) -> None:
        nonlocal pixels
        pixels += window.size.area
        report(pixels // len(arrays), grid.shape.area)

    return _by_rule(mask, arrays, rule, measuring.connectivity, done)


def find_in_memory(
    labels: NDArray[Any],
    rule: InstanceRule,
    *,
    nodata: int | None,
    background: int | None,
    connectivity: Connectivity,
) -> NDArray[np.uint32]:
    """The instance of each pixel of a small mask (rows, cols), 0 for none, as `find_instances`."""
    shape = Size(*labels.shape)
    mask = Mask(lambda window: labels[window.slices], BlockGrid(shape, shape), nodata, background)
    found = _by_rule(mask, [InMemory(shape), InMemory(shape)], rule, connectivity, lambda _: None)
    return found.read(Window.whole(shape))


def _by_rule(
    mask: Mask,
    arrays: Sequence[Store],
    rule: InstanceRule,
    connectivity: Connectivity,
    done: Callable[[Window], None],
) -> InstanceMap:
    if isinstance(rule, Border):
        assert rule.border is not None
        return grown_back(mask, arrays, rule.radius, rule.border, connectivity, done)
    return watershed(mask, arrays[0], rule.depth, connectivity, done)


def measure_instances(
    instances: InstanceMap,
    measuring: Measuring,
    image: Callable[[Window], NDArray[Any] | None],
    report: Report = lambda *_: None,
) -> RegionTable:
    """The table of instances; `label_blocks` of it takes `instances.read`.

    measuring: of the regions of their mask. image: (rows, cols, bands) pixels of a window, or
    None. report: called with (pixels done, pixels).
    """
    alone = measuring.of_instances()

    def one(window: Window) -> BlockTable:
        table, _ = alone.block(instances.read(window), window, image(window))
        assert table is not None
        return table

    pixels = 0

    def tables() -> Any:
        nonlocal pixels
        for table in ahead(one, alone.grid):
            pixels += table.window.size.area
            report(pixels, table.shape.area)
            yield table

    found = alone.merge(tables())
    columns = found.columns | {"class": instances.classes[found.columns["class"]]}
    background = found.background - instances.nodata
    found = replace(found, columns=columns, background=background, nodata=instances.nodata)
    only = () if measuring.options is None else measuring.options.only
    return found.select(np.isin(columns["class"], only)) if only else found
