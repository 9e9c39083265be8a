"""What a run fills block by block: the mask, class probabilities and tables of regions."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import DamageError
from tilseg.journal import BlockRecord
from tilseg.plan import Plan
from tilseg.regions import BlockGrid, BlockTable
from tilseg.regions.parts import TableStore
from tilseg.sinks.probabilities import ProbabilityStore
from tilseg.sinks.zarr import MaskStore
from tilseg.window import Window

MASK = "mask.zarr"
PROBABILITIES = "probabilities.zarr"
# Beside the folder of the stores, for it may be the result, where these have no place.
TABLES = "tables"
INSTANCES = "instances"


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of one run, side by side in one folder; the tables in one beside it."""

    mask: MaskStore
    probabilities: ProbabilityStore | None
    tables: TableStore | None

    @staticmethod
    def names(plan: Plan) -> tuple[str, ...]:
        """Names of the stores that a run of `plan` fills in their folder."""
        return (MASK, PROBABILITIES) if plan.probabilities else (MASK,)

    @classmethod
    def create(cls, folder: Path, plan: Plan, classes: int) -> Stores:
        """The stores in `folder`, made where they are not there; blocks that are there stay.

        Raises ExistsError E-EXISTS for one of another shape, OutputError E-OUTPUT-WRITE.
        """
        grid = plan.grid
        mask = MaskStore.create(folder / MASK, grid.shape, grid.block)
        probabilities = None
        if plan.probabilities:
            path = folder / PROBABILITIES
            probabilities = ProbabilityStore.create(path, grid.shape, grid.block, classes)
        return cls(mask, probabilities, _tables(folder, plan))

    @classmethod
    def open(cls, folder: str | os.PathLike[str], plan: Plan) -> Stores:
        """The stores in `folder`; raises InputError for what is missing or damaged."""
        folder = Path(folder)
        mask = MaskStore.open(folder / MASK)
        probabilities = None
        if plan.probabilities:
            probabilities = ProbabilityStore.open(folder / PROBABILITIES)
        return cls(mask, probabilities, _tables(folder, plan))

    def commit(
        self,
        window: Window,
        labels: NDArray[np.uint8],
        probabilities: NDArray[np.uint8] | None,
        table: BlockTable | None,
    ) -> tuple[int, ...]:
        """Store one block in each; returns the CRC-32 of what was stored, the mask's first."""
        crcs = [self.mask.commit(window, labels)]
        if self.probabilities is not None and probabilities is not None:
            crcs.append(self.probabilities.commit(window, probabilities))
        if self.tables is not None and table is not None:
            crcs.append(self.tables.commit(table))
        return tuple(crcs)

    def holds(self, plan: Plan, record: BlockRecord) -> bool:
        """Whether a block is there and reads back as its record says, in every store."""
        window = plan.grid.window_at(record.index)
        row, col = divmod(record.index, plan.grid.block_counts.cols)
        parts = self._parts(window, Path(str(row), str(col)))
        try:
            for file, _ in parts:
                if not file.is_file():
                    # A network disk may show this machine an old directory until it is listed.
                    os.listdir(file.parent)
                # Without its file a block reads as nodata, which may be what it should hold.
                if not file.is_file():
                    return False
            return tuple(crc(window) for _, crc in parts) == record.crcs
        except (DamageError, FileNotFoundError):
            return False

    @property
    def bytes_of_block(self) -> int:
        """What a whole block takes in memory."""
        planes = 1 if self.probabilities is None else 1 + self.probabilities.count
        return planes * self.mask.block.area

    def _parts(self, window: Window, shard: Path) -> list[tuple[Path, Callable[[Window], int]]]:
        """The file of a block in each store, and what tells its CRC-32, in order of `commit`."""
        parts: list[tuple[Path, Callable[[Window], int]]]
        parts = [(self.mask.path / "0" / "c" / shard, self.mask.block_crc)]
        if self.probabilities is not None:
            path = self.probabilities.path / "0" / "c" / "0" / shard
            parts.append((path, self.probabilities.block_crc))
        if self.tables is not None:
            parts.append((self.tables.file(window), self.tables.block_crc))
        return parts


def _tables(folder: Path, plan: Plan) -> TableStore | None:
    if plan.regions is None or plan.regions.rule is not None:
        return None
    return TableStore(folder.parent / TABLES, BlockGrid(plan.grid.shape, plan.grid.block))
