"""The regions of a whole mask, and the second pass that paints their labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.regions.components import Rules, components
from tilseg.regions.grid import BlockGrid
from tilseg.window import Window


@dataclass(frozen=True, slots=True)
class RegionTable:
    """One row a region, in raster order of their first pixels; see `properties` for columns.

    columns: `label` 1..n first. grid, rules: what was measured and how.
    background, nodata: pixels of each; all others are in a region.
    block_labels: by block, the label of each of its components; 0 for one that was dropped.
    """

    columns: dict[str, NDArray[Any]]
    grid: BlockGrid
    rules: Rules
    background: int
    nodata: int
    block_labels: dict[int, NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.columns["label"])

    def select(self, keep: NDArray[np.bool_]) -> RegionTable:
        """Only the regions where `keep` (n,) is true, numbered anew in the same order."""
        renumber = np.concatenate([[0], np.where(keep, np.cumsum(keep), 0)])
        columns = {name: values[keep] for name, values in self.columns.items()}
        columns["label"] = np.arange(1, len(columns["label"]) + 1)
        labels = {index: renumber[values] for index, values in self.block_labels.items()}
        return replace(self, columns=columns, block_labels=labels)


def label_blocks(
    read: Callable[[Window], NDArray[Any]], regions: RegionTable
) -> Iterator[tuple[Window, NDArray[np.uint32]]]:
    """The label of every pixel, block by block: 0 where there is no region.

    read: the mask's pixels, the same as were measured. The blocks together equal
    `skimage.measure.label` of the mask (or of what `select` left of it).
    """
    if len(regions) >= 2**32:
        raise ValueError(f"{len(regions)} regions do not fit 32 bits")
    for index, window in enumerate(regions.grid):
        yield window, label_block(read(window), regions, index)


def label_block(labels: NDArray[Any], regions: RegionTable, index: int) -> NDArray[np.uint32]:
    """The label of every pixel of block number `index`, whose mask `labels` is: (rows, cols)."""
    parts = components(labels, regions.rules)
    painted = parts.paint(regions.block_labels[index].astype(np.uint32))
    return np.ascontiguousarray(painted.reshape(-1, parts.stride)[1:-1, 1:-1])
