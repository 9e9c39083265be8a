"""One block from pixels to committed labels: read, predict tile by tile, crop, write.

This is the whole of a Dask task. A process keeps one `BlockWorker` per job; its threads share
one network, so that while some blocks are in it others are read ahead and written behind.
"""

from __future__ import annotations

import platform
import threading
import time
from concurrent.futures import wait
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from tilseg.answer import Answer, Piece
from tilseg.card import read_card
from tilseg.errors import InputError, ModelError, ResourceError
from tilseg.journal import BadTile, BlockRecord, Skipped
from tilseg.lanes import Lanes
from tilseg.model import Model, load_model
from tilseg.nodata import NODATA
from tilseg.plan import Block, Plan, Tile
from tilseg.reading import read_filled
from tilseg.regions import BlockTable
from tilseg.regions.measuring import Measuring
from tilseg.source import Source
from tilseg.sources.planned import open_planned
from tilseg.stores import Stores
from tilseg.where.chosen import Chosen, Wanted
from tilseg.window import Window

# Another version of any of these may give other bits.
_SAME_VERSIONS = ("tilseg", "torch", "numpy")


def versions() -> tuple[tuple[str, str], ...]:
    """Versions that must agree between the driver and every worker."""
    found = tuple((name, version(name)) for name in _SAME_VERSIONS)
    return (*found, ("machine", platform.machine()))


@dataclass(frozen=True, slots=True)
class Job:
    """All that crosses a process border: the plan, where results go, and how.

    folder: of the stores being filled; see `tilseg.stores`. versions: the driver's, checked by
    every worker.
    """

    plan: Plan
    folder: str
    versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class BlockFailure:
    """A block with tiles that could not be computed; nothing of it was committed."""

    index: int
    bad: tuple[BadTile, ...]


class BlockWorker:
    """Computes and commits blocks of one job; its methods are thread-safe.

    Raises ResourceError E-WORKER-VERSION and ModelError E-MODEL-CHANGED where this process is
    not as the driver was.
    """

    def __init__(self, job: Job) -> None:
        for (name, theirs), (_, mine) in zip(job.versions, versions(), strict=True):
            if theirs != mine:
                raise ResourceError("E-WORKER-VERSION", name=name, driver=theirs, worker=mine)
        plan = job.plan
        self.plan = plan
        self.source: Source = open_planned(plan)
        self.model = _network(plan)
        if self.model.sha256 != plan.model_sha256:
            raise ModelError("E-MODEL-CHANGED", path=plan.model)
        self.stores = Stores.open(job.folder, plan)
        self.stopping = threading.Event()
        self._lanes = Lanes(plan.lanes)
        self._chosen = Chosen(plan.selection, plan.grid.shape)
        self._measuring = Measuring.of_run(plan, self.source, self.model.card, NODATA)
        self._one_measures = threading.Lock()

    def compute(self, index: int, *, mask_bad: bool = False) -> BlockRecord | BlockFailure | None:
        """Compute and commit block `index`; None once `stopping` is set.

        Tiles that can't be read or have non-finite scores fail the block, or, with `mask_bad`,
        are committed as nodata and named in the record. An OutputError is raised, for it
        concerns every block.
        """
        if self.stopping.is_set():
            return None
        block = self.plan.grid.block_at(index)
        clock = [time.perf_counter()]
        pieces, bad = self._read(block)
        wanted = self._wanted(block, pieces)
        clock.append(time.perf_counter())
        answered = self._predict(block, pieces, wanted)
        if answered is None:
            return None
        answer, more, predict = answered
        bad += more
        if bad and not mask_bad:
            return BlockFailure(index, tuple(bad))
        clock.append(time.perf_counter())
        answer.leave(wanted, self.model.card.background)
        table, areas = self._measure(block, pieces, answer.labels)
        crcs = self.stores.commit(block.write, answer.labels, answer.probabilities, table)
        counts = self._counts(answer.labels)
        clock.append(time.perf_counter())
        return BlockRecord(
            index=index,
            crcs=crcs,
            counts=counts,
            # The wait for a lane is in none of them: it is another block's time.
            seconds=(clock[1] - clock[0], predict, clock[3] - clock[2]),
            bad=tuple(bad),
            areas=areas,
            skipped=self._reason(block, wanted) if not bad else None,
        )

    def _reason(self, block: Block, wanted: Wanted) -> Skipped | None:
        """Why the network was not asked, or None where it was."""
        if wanted.some(block.write):
            return None
        return self._chosen.reason_to_skip(block.write) or "nodata"

    def close(self) -> None:
        """Let go of the image and the network's threads."""
        self._lanes.close()
        self.source.close()

    def _measure(
        self, block: Block, pieces: list[Piece], labels: NDArray[np.uint8]
    ) -> tuple[BlockTable | None, tuple[float, ...]]:
        """The regions of a block with the image's own pixels, and the areas of its classes."""
        window = block.write
        if pieces and pieces[0].window.contains(window):
            image = pieces[0].pixels[pieces[0].slices(window)]
        else:
            # Read tile by tile: where a tile could not be read there is no class either.
            image = np.zeros((*window.size, len(self.plan.bands)), self.source.dtype)
            for piece in pieces:
                for tile in piece.tiles:
                    target = tile.write.relative_to(window).slices
                    image[target] = piece.pixels[piece.slices(tile.write)]
        # One at a time, for it takes more memory than the block itself and is over soon.
        with self._one_measures:
            return self._measuring.block(labels, window, image)

    def _counts(self, labels: NDArray[np.uint8]) -> tuple[tuple[int, int], ...]:
        # One comparison a class is several times faster than sorting, which np.unique does.
        values = (*range(len(self.model.card.classes)), NODATA)
        counts = ((value, int(np.count_nonzero(labels == value))) for value in values)
        return tuple((value, count) for value, count in counts if count)

    def _read(self, block: Block) -> tuple[list[Piece], list[BadTile]]:
        """Pixels for the block's tiles, in one read, or tile by tile where that fails."""
        try:
            unread = self._unread(block)
            return [unread or self._read_piece(block.read, block.tiles)], []
        except InputError:
            pieces, bad = [], []
            for tile in block.tiles:
                try:
                    pieces.append(self._read_piece(tile.read, (tile,)))
                except InputError as error:
                    bad.append(BadTile(tile.write, error.message))
            return pieces, bad

    def _unread(self, block: Block) -> Piece | None:
        """A block that is skipped, without its pixels; None where they have a say in it."""
        reason, source, window = self._chosen.reason_to_skip(block.write), self.source, block.write
        in_pixels = source.nodata is not None or source.dtype.kind == "f"
        if reason is None or (reason == "tissue" and in_pixels):
            return None
        valid = source.mask(window, self.plan.level) if reason == "tissue" else None
        none = np.zeros((), source.dtype)
        pixels = np.broadcast_to(none, (*window.size, len(self.plan.bands)))
        return Piece(window, block.tiles, pixels, valid)

    def _wanted(self, block: Block, pieces: list[Piece]) -> Wanted:
        """What the selection and the block's own nodata leave of it."""
        window = block.write
        data = None
        if any(piece.valid is not None for piece in pieces):
            data = np.ones(window.size, np.bool_)
            for piece in pieces:
                for tile in piece.tiles:
                    if piece.valid is not None:
                        part = piece.valid[piece.slices(tile.write)]
                        data[tile.write.relative_to(window).slices] = part
        return self._chosen.wanted(window, data)

    def _read_piece(self, window: Window, tiles: tuple[Tile, ...]) -> Piece:
        return Piece(window, tiles, *read_filled(self.plan, self.source, window))

    def _predict(
        self, block: Block, pieces: list[Piece], wanted: Wanted
    ) -> tuple[Answer, list[BadTile], float] | None:
        """What the network says of the block's own pixels, the tiles it could not, and the
        seconds it took; None once `stopping` is set."""
        answer = Answer.none(block.write, len(self.model.card.classes), self.plan)
        asked = [
            self._lanes.submit(self._predict_tile, tile, piece, block.write, answer)
            for piece in pieces
            for tile in piece.tiles
            if wanted.some(tile.write)
        ]
        # All of them are waited for, whatever one of them raised: they write into `answer`.
        wait(asked)
        told = [found for future in asked if (found := future.result()) is not None]
        if len(told) < len(asked):
            return None
        bad = [tile for _, found in told for tile in found]
        return answer, bad, sum(seconds for seconds, _ in told)

    def _predict_tile(
        self, tile: Tile, piece: Piece, block: Window, answer: Answer
    ) -> tuple[float, list[BadTile]] | None:
        if self.stopping.is_set():
            return None
        began = time.perf_counter()
        found = self.model.predict(
            piece.pixels[piece.slices(tile.read)][None],
            self.plan.statistics,
            probabilities=self.plan.probabilities,
        )
        bad = []
        if found.finite[0]:
            answer.place(tile.write, block, found)
        else:
            bad.append(BadTile(tile.write, "the network gave NaN or infinity"))
        return time.perf_counter() - began, bad


_workers: dict[Job, BlockWorker] = {}
_workers_lock = threading.Lock()


def worker_for(job: Job) -> BlockWorker:
    """This process's worker for `job`, made at the first call."""
    with _workers_lock:
        if job not in _workers:
            _workers[job] = BlockWorker(job)
        return _workers[job]


def release(job: Job, *, keep_network: bool = False) -> None:
    """Forget this process's worker for `job` and close its image; the next call makes another.

    keep_network: have its network at hand for the next job that wants the same.
    """
    with _workers_lock:
        worker = _workers.pop(job, None)
    if worker is not None:
        worker.close()
        if keep_network:
            forget_network()
            _kept[_network_key(worker.plan)] = worker.model


# The network of the last job, where more jobs are to come.
_kept: dict[tuple[object, ...], Model] = {}


def forget_network() -> None:
    """Let go of the network that `release` kept."""
    _kept.clear()


def _network(plan: Plan) -> Model:
    kept = _kept.get(_network_key(plan))
    return kept or load_model(
        plan.model,
        device=plan.device,
        precision=plan.precision,
        threads=plan.threads,
        tta=plan.tta,
        ranges=plan.ranges,
    )


def _network_key(plan: Plan) -> tuple[object, ...]:
    of_model = plan.model_sha256, plan.model, plan.device, plan.threads
    return *of_model, plan.precision, plan.ranges, plan.tta


def stop(job: Job) -> None:
    """Let this process begin no more blocks of `job`; the one in the network is finished."""
    with _workers_lock:
        worker = _workers.get(job)
    if worker is not None:
        worker.stopping.set()


def leave_out(job: Job, index: int, reason: str) -> BlockRecord:
    """Commit block `index` as nothing but nodata, because of `reason`; the network is not asked."""
    plan, card = job.plan, read_card(job.plan.model)
    window = plan.grid.window_at(index)
    answer = Answer.none(window, len(card.classes), plan)
    source = open_planned(plan)
    try:
        measuring = Measuring.of_run(plan, source, card, NODATA)
        image = np.zeros((*window.size, len(plan.bands)), source.dtype)
    finally:
        source.close()
    table, areas = measuring.block(answer.labels, window, image)
    stores = Stores.open(job.folder, plan)
    crcs = stores.commit(window, answer.labels, answer.probabilities, table)
    return BlockRecord(
        index=index,
        crcs=crcs,
        counts=((NODATA, window.size.area),),
        seconds=(0.0, 0.0, 0.0),
        bad=(BadTile(window, reason),),
        areas=areas,
    )


def compute_block(job: Job, index: int, mask_bad: bool) -> BlockRecord | BlockFailure | None:
    """The Dask task: block `index` of `job`, in whatever process this is."""
    return worker_for(job).compute(index, mask_bad=mask_bad)
