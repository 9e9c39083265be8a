"""The tables of a run's blocks on disk, one file a block, until the run has all of them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from tilseg.regions.block import BlockTable
from tilseg.regions.grid import BlockGrid
from tilseg.sinks.shards import replace_bytes
from tilseg.window import Window


class TableStore:
    """A folder with the table of each block of `grid`, with the promises of a mask's blocks.

    Every block has one owner; `commit` may be called from any thread or process, and again.
    """

    def __init__(self, path: str | os.PathLike[str], grid: BlockGrid) -> None:
        self.path = Path(path)
        self._grid = grid

    def file(self, window: Window) -> Path:
        """Where the table of a block is; ValueError for a window that is none."""
        return self.path / f"{self._grid.index(window)}.npz"

    def commit(self, table: BlockTable) -> int:
        """Put the table of one block in place in one step; returns the CRC-32 of its file.

        Raises OutputError E-OUTPUT-WRITE.
        """
        content = table.to_bytes()
        replace_bytes(self.file(table.window), content)
        return zlib.crc32(content)

    def block_crc(self, window: Window) -> int:
        """What `commit` returned for what is now stored; raises FileNotFoundError."""
        return zlib.crc32(self.file(window).read_bytes())

    def __iter__(self) -> Iterator[BlockTable]:
        """All tables in raster order; raises DamageError E-REGION-TABLE, FileNotFoundError."""
        return (BlockTable.from_bytes(self.file(w).read_bytes()) for w in self._grid)
