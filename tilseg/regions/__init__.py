"""Regions of a mask as if it had never been cut: components, properties, tables.

`measure_block` on each block, `merge` on all their tables, `label_blocks` for a label raster.
"""

from tilseg.regions.block import BlockTable, measure_block
from tilseg.regions.components import Rules
from tilseg.regions.grid import BlockGrid
from tilseg.regions.merge import merge
from tilseg.regions.region_table import RegionTable, label_block, label_blocks

__all__ = [
    "BlockGrid",
    "BlockTable",
    "RegionTable",
    "Rules",
    "label_block",
    "label_blocks",
    "measure_block",
    "merge",
]
