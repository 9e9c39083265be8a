"""What a run fills block by block: the mask, and class probabilities where they are asked for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import DamageError
from tilseg.journal import BlockRecord
from tilseg.plan import Plan
from tilseg.sinks.probabilities import ProbabilityStore
from tilseg.sinks.zarr import MaskStore
from tilseg.window import Window

MASK = "mask.zarr"
PROBABILITIES = "probabilities.zarr"


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of one run, side by side in one folder."""

    mask: MaskStore
    probabilities: ProbabilityStore | None

    @staticmethod
    def names(plan: Plan) -> tuple[str, ...]:
        """Names of the stores that a run of `plan` fills."""
        return (MASK, PROBABILITIES) if plan.probabilities else (MASK,)

    @classmethod
    def create(cls, folder: Path, plan: Plan, classes: int) -> Stores:
        """The stores in `folder`, made where they are not there; blocks that are there stay.

        Raises ExistsError E-EXISTS for one of another shape, OutputError E-OUTPUT-WRITE.
        """
        grid = plan.grid
        mask = MaskStore.create(folder / MASK, grid.shape, grid.block)
        if not plan.probabilities:
            return cls(mask, None)
        path = folder / PROBABILITIES
        return cls(mask, ProbabilityStore.create(path, grid.shape, grid.block, classes))

    @classmethod
    def open(cls, folder: str | os.PathLike[str], plan: Plan) -> Stores:
        """The stores in `folder`; raises InputError for what is missing or damaged."""
        mask = MaskStore.open(Path(folder) / MASK)
        if not plan.probabilities:
            return cls(mask, None)
        return cls(mask, ProbabilityStore.open(Path(folder) / PROBABILITIES))

    def commit(
        self, window: Window, labels: NDArray[np.uint8], probabilities: NDArray[np.uint8] | None
    ) -> tuple[int, ...]:
        """Store one block in each; returns the CRC-32 of what was stored, the mask's first."""
        crc = self.mask.commit(window, labels)
        if self.probabilities is None or probabilities is None:
            return (crc,)
        return crc, self.probabilities.commit(window, probabilities)

    def holds(self, plan: Plan, record: BlockRecord) -> bool:
        """Whether a block is there and reads back as its record says, in every store."""
        window = plan.grid.block_at(record.index).write
        row, col = divmod(record.index, plan.grid.block_counts.cols)
        try:
            for shard in (folder / str(row) / str(col) for folder in self._shards()):
                if not shard.is_file():
                    # A network disk may show this machine an old directory until it is listed.
                    os.listdir(shard.parent)
                # Without its file a block reads as nodata, which may be what it should hold.
                if not shard.is_file():
                    return False
            stored = [self.mask.block_crc(window)]
            if self.probabilities is not None:
                stored.append(self.probabilities.block_crc(window))
        except (DamageError, FileNotFoundError):
            return False
        return tuple(stored) == record.crcs

    def _shards(self) -> list[Path]:
        """Folders of the shards of level 0, by row and column below them."""
        folders = [self.mask.path / "0" / "c"]
        if self.probabilities is not None:
            folders.append(self.probabilities.path / "0" / "c" / "0")
        return folders
