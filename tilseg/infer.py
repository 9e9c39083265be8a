"""One block from pixels to committed labels: read, predict tile by tile, crop, write.

This is the whole of a Dask task. A process keeps one `BlockWorker` per job; its threads share
one network behind a lock, so that while one thread predicts the others read ahead and write
behind.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.journal import BlockRecord
from tilseg.model import Model, load_model
from tilseg.nodata import fill_invalid, valid_pixels
from tilseg.plan import Block, Plan, Tile
from tilseg.sinks.zarr import MaskStore
from tilseg.source import Source, open_source
from tilseg.window import Window, read_mirrored

NODATA = 255


@dataclass(frozen=True, slots=True)
class Job:
    """All that crosses a process border: the plan, where results go, and how many at once.

    store: path of the mask.zarr being filled. batch: tiles in one call of the network.
    """

    plan: Plan
    store: str
    batch: int = 1


@dataclass(frozen=True, slots=True)
class BlockFailure:
    """A block that could not be computed: where, and why, in one line."""

    index: int
    window: Window
    reason: str


class _NotFinite(Exception):
    """The network returned NaN or infinity for a tile."""


class BlockWorker:
    """Computes and commits blocks of one job; its methods are thread-safe."""

    def __init__(self, job: Job) -> None:
        plan = job.plan
        self.plan = plan
        self.batch = job.batch
        self.source: Source = open_source(plan.source)
        self.model: Model = load_model(
            plan.model, device=plan.device, precision=plan.precision, threads=plan.threads
        )
        self.store = MaskStore.open(job.store)
        self.stopping = threading.Event()
        self._network = threading.Lock()

    def compute(self, index: int) -> BlockRecord | BlockFailure | None:
        """Compute and commit block `index`; None when the run is stopping.

        An unreadable tile or a non-finite score fails the block; an OutputError is raised,
        for it concerns every block.
        """
        if self.stopping.is_set():
            return None
        block = self.plan.grid.block_at(index)
        started = time.perf_counter()
        try:
            pixels, valid = self._read(block)
        except InputError as error:
            return BlockFailure(index, block.write, error.message)
        read = time.perf_counter()
        # The wait for the network belongs to nobody's account: it is another block's time.
        with self._network:
            begun = time.perf_counter()
            try:
                labels = self._predict(block, pixels, valid)
            except _NotFinite as error:
                return BlockFailure(index, block.write, str(error))
            predicted = time.perf_counter()
        crc = self.store.commit(block.write, labels)
        values, counts = np.unique(labels, return_counts=True)
        written = time.perf_counter()
        return BlockRecord(
            index=index,
            crc=crc,
            counts=tuple(zip(values.tolist(), counts.tolist(), strict=True)),
            seconds=(
                round(read - started, 4),
                round(predicted - begun, 4),
                round(written - predicted, 4),
            ),
        )

    def _read(self, block: Block) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Pixels of the block's read window, filled where invalid, and the valid ones."""
        plan, source = self.plan, self.source
        shape = plan.grid.shape

        def read(window: Window) -> NDArray[Any]:
            return source.read(window, plan.level, plan.bands)

        def mask(window: Window) -> NDArray[Any]:
            found = source.mask(window, plan.level)
            return np.ones(window.size, np.bool_) if found is None else found

        pixels = read_mirrored(read, block.read, shape)
        masked = source.mask(block.write, plan.level) is not None
        outside = read_mirrored(mask, block.read, shape) if masked else None
        valid = valid_pixels(pixels, source.nodata, outside)
        return fill_invalid(pixels, valid, plan.statistics), valid

    def _predict(
        self, block: Block, pixels: NDArray[Any], valid: NDArray[np.bool_] | None
    ) -> NDArray[np.uint8]:
        """Class values of the block's own pixels, 255 where there is no data."""
        labels = np.full(block.write.size, NODATA, np.uint8)
        own = None if valid is None else valid[block.write.relative_to(block.read).slices]
        tiles = [tile for tile in block.tiles if own is None or _any(own, tile, block)]
        for first in range(0, len(tiles), self.batch):
            group = tiles[first : first + self.batch]
            inputs = np.stack([pixels[t.read.relative_to(block.read).slices] for t in group])
            prediction = self.model.predict(inputs, self.plan.statistics)
            for tile, finite, output in zip(
                group, prediction.finite, prediction.labels, strict=True
            ):
                if not finite:
                    raise _NotFinite(
                        f"the network gave NaN or infinity in the tile at {tile.write}"
                    )
                target = tile.write.relative_to(block.write).slices
                labels[target] = output[: tile.write.rows, : tile.write.cols]
        if own is not None:
            labels[~own] = NODATA
        return labels


def _any(own: NDArray[np.bool_], tile: Tile, block: Block) -> bool:
    return bool(own[tile.write.relative_to(block.write).slices].any())


_workers: dict[Job, BlockWorker] = {}
_workers_lock = threading.Lock()


def worker_for(job: Job) -> BlockWorker:
    """This process's worker for `job`, made at the first call."""
    with _workers_lock:
        if job not in _workers:
            _workers[job] = BlockWorker(job)
        return _workers[job]


def release(job: Job) -> None:
    """Forget this process's worker for `job` and close its image."""
    with _workers_lock:
        worker = _workers.pop(job, None)
    if worker is not None:
        worker.source.close()


def compute_block(job: Job, index: int) -> BlockRecord | BlockFailure | None:
    """The Dask task: block `index` of `job`, in whatever process this is."""
    return worker_for(job).compute(index)
