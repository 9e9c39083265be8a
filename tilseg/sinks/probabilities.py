"""Class probabilities beside the mask: OME-Zarr 0.5 with one channel a class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.card import ClassInfo
from tilseg.georef import Georef
from tilseg.sink import Progress
from tilseg.sinks.ngff import MaskInfo, parse_group_json, probabilities_json
from tilseg.sinks.shards import BlockArray, replace_bytes
from tilseg.sinks.zarr import build_pyramid, pyramid
from tilseg.window import Size, Window


class ProbabilityStore:
    """`probabilities.zarr`: uint8, 255 for certain, 0 in every class where there is no data.

    Written block by block like `tilseg.sinks.zarr.MaskStore`, with the same promises.
    """

    def __init__(self, path: Path, level0: BlockArray, info: MaskInfo | None) -> None:
        self.path = path
        self._level0 = level0
        self._info = info

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], shape: Size, block: Size, classes: int
    ) -> ProbabilityStore:
        """The store at `path`, made where it is not there; raises as `BlockArray.create`."""
        BlockArray.create(Path(path) / "0", shape, block, bands=classes)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ProbabilityStore:
        """The store at `path`, finished or not; raises as `BlockArray.open`."""
        path = Path(path)
        group = path / "zarr.json"
        info = parse_group_json(group.read_bytes()) if group.is_file() else None
        return cls(path, BlockArray.open(path / "0"), info)

    @property
    def shape(self) -> Size:
        return self._level0.shape

    @property
    def count(self) -> int:
        """Number of classes, also before it is finished."""
        return self._level0.bands or 0

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        return self._finished.classes

    @property
    def georef(self) -> Georef:
        return self._finished.georef

    @property
    def provenance(self) -> Mapping[str, str]:
        return self._finished.provenance

    @property
    def _finished(self) -> MaskInfo:
        if self._info is None:
            raise ValueError(f"{self.path} is not finished: it has no classes or place yet")
        return self._info

    def commit(self, window: Window, probabilities: NDArray[np.uint8]) -> int:
        """Store one block of (rows, cols, classes); see `BlockArray.commit`."""
        return self._level0.commit(window, np.ascontiguousarray(np.moveaxis(probabilities, 2, 0)))

    def read(self, window: Window) -> NDArray[Any]:
        """Probabilities of a window: (rows, cols, classes); see `BlockArray.read`."""
        return np.moveaxis(self._level0.read(window), 0, 2)

    def read_coarsest(self) -> tuple[NDArray[Any], int]:
        """All of the last level of a finished one, which fits in 512 x 512: (rows, cols, classes).

        And how many pixels each way one stands for; it is the upper left one of these.
        """
        last = len(pyramid(self.shape)) - 1
        level = BlockArray.open(self.path / str(last))
        return np.moveaxis(level.read(Window.whole(level.shape)), 0, 2), 2**last

    def block_crc(self, window: Window) -> int:
        """What `commit` returned for what is now stored; raises as `read` does."""
        return self._level0.block_crc(window)

    def finish(
        self,
        *,
        name: str,
        classes: Sequence[ClassInfo],
        georef: Georef,
        provenance: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Build the pyramid, then make it an image; see `MaskStore.finish`."""
        levels = build_pyramid(self.path, self._level0, progress)
        info = MaskInfo(name, tuple(classes), None, georef, provenance or {})
        replace_bytes(self.path / "zarr.json", probabilities_json(info, levels))
        self._info = info
