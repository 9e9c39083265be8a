"""Tiles, blocks and predictions at once: those that compute least within a memory budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tilseg.budget import format_bytes
from tilseg.errors import ResourceError
from tilseg.model import Model
from tilseg.plan import TileGrid, workers_for
from tilseg.receptive_field import ReceptiveField
from tilseg.source import Source
from tilseg.sources.resampled import ResampledSource
from tilseg.sources.rows import WholeRows
from tilseg.window import Size

# Large blocks read the halo less often; small images still get enough blocks to share out, to
# lose little when a run is killed, and to show progress.
_BLOCK = 2048
_BLOCKS_A_SIDE = 3
# Tiles for each lane, so that none of them waits long for the last.
_TILES_A_LANE = 3
# The interpreter with torch, dask, rasterio and zarr, GDAL's cache and the driver's own tables.
_BASE_BYTES = 700 * 2**20
# Of a pixel of the one block whose regions are being measured, beside its image: as measured
# on masks of real objects. Noise takes up to seven times that.
_REGION_BYTES = 24


@dataclass(frozen=True, slots=True)
class Share:
    """What each of `processes` of a machine may use of it: bytes of memory, and CPUs."""

    memory: int
    cpus: int
    processes: int


@dataclass(frozen=True, slots=True)
class Tiling:
    """How an image is cut, how many tiles are predicted at once, and the CPU threads of each."""

    grid: TileGrid
    lanes: int
    threads: int


def choose_tiling(
    shape: Size,
    model: Model,
    share: Share,
    needs: Callable[[TileGrid, int], int],
    *,
    tile: int | None,
    threads: int | None,
) -> Tiling:
    """The first of all tilings, the one that computes least first, that fits the share.

    needs: bytes that a grid and a number of lanes take, see `needed_memory`. tile, threads: as of
    `make_plan`. Raises UsageError E-TILE-STEP, ResourceError E-MEMORY and E-MEMORY-DEVICE.
    """
    least = math.inf
    steps = _steps(shape, model, tile, share.processes)
    for grid, lanes in _tilings(shape, model.field, steps, _lanes(share.cpus, threads, model)):
        needed = needs(grid, lanes)
        if needed <= share.memory:
            return Tiling(grid, lanes, threads or _threads(share.cpus, lanes, model))
        least = min(least, needed)
    raise ResourceError("E-MEMORY", needed=format_bytes(least), budget=format_bytes(share.memory))


def needed_memory(
    grid: TileGrid,
    lanes: int,
    source: Source,
    model: Model,
    workers: int | None = None,
    *,
    probabilities: bool = False,
    regions: bool = True,
) -> int:
    """Bytes a process takes at most for a run on `grid`, beside the tables of its regions.

    source: as its blocks read it, see `tilseg.sources.planned`.
    """
    workers = workers or workers_for(grid, lanes)
    bands = model.card.bands
    pixel = source.dtype.itemsize * bands
    read = grid.read.area
    # Raw pixels, and a copy of them where nodata is filled; labels, and their shard encoded; a
    # strip, tile or chunk of the image being decoded. Masks of what is selected and of what
    # holds data.
    block = 2 * read * pixel + 7 * grid.block.area + source.segment_bytes
    if isinstance(source, ResampledSource):
        block += source.working_bytes(grid.read)
    if probabilities:
        # The block, its shard encoded, and both again in the order of the file.
        block += 4 * len(model.card.classes) * grid.block.area
    rows = source.image if isinstance(source, ResampledSource) else source
    kept = rows.kept_bytes if isinstance(rows, WholeRows) else 0
    one = (_REGION_BYTES + 2 * pixel) * grid.block.area if regions else 0
    return _BASE_BYTES + kept + workers * block + one + lanes * model.working_bytes(grid.input)


def kind_of_device(model: Model) -> Literal["cpu", "cuda"]:
    """What computes a model: a GPU of whichever number, or CPUs."""
    return "cuda" if model.device.startswith("cuda") else "cpu"


def _tilings(
    shape: Size, field: ReceptiveField, steps: Sequence[Size], lanes: Sequence[int]
) -> Iterator[tuple[TileGrid, int]]:
    """Grids, and how many of their tiles to predict at once.

    A smaller tile costs more than fewer lanes win, so lanes are given up first.
    """
    largest = min(_BLOCK, math.isqrt(shape.area) // _BLOCKS_A_SIDE)
    for step in steps:
        grids = [
            TileGrid(shape, field, step, _tiles_per_block(shape, step, target))
            for target in (largest, largest // 2, 1)
        ]
        for count in lanes:
            if count == 1 or grids[0].tile_counts.area >= _TILES_A_LANE * count:
                yield from ((grid, count) for grid in grids)


def _steps(shape: Size, model: Model, tile: int | None, processes: int) -> list[Size]:
    """Steps to try, those that compute least first; of a `tile` that is given, no other."""
    field = model.field
    if tile is not None:
        field.check_step(tile)
        return [Size(*(min(tile, field.step_covering(side)) for side in shape))]
    caps = _input_caps(field, model.largest_input(processes))
    return [Size(*(_best_step(field, side, cap) for side in shape)) for cap in caps]


def _input_caps(field: ReceptiveField, largest: int) -> list[int]:
    """Bounds on the input to try, largest first, down to the smallest legal input."""
    smallest = field.input_for(field.stride)
    caps = [max(largest, smallest)]
    while caps[-1] > smallest:
        caps.append(max(caps[-1] * 3 // 4, smallest))
    return caps


def _best_step(field: ReceptiveField, side: int, cap: int) -> int:
    """The step along one axis that computes the fewest pixels with inputs of at most `cap`."""
    covering = field.step_covering(side)
    steps = [
        step
        for step in range(field.stride, covering + 1, field.stride)
        if field.input_for(step) <= cap
    ]
    return min(steps, key=lambda step: (-(-side // step) * field.input_for(step), -step))


def _tiles_per_block(shape: Size, step: Size, target: int) -> Size:
    rows, cols = (
        min(max(1, round(target / tile)), -(-side // tile))
        for side, tile in zip(shape, step, strict=True)
    )
    return Size(rows, cols)


def _lanes(cpus: int, threads: int | None, model: Model) -> list[int]:
    """How many predictions at once to try, the fastest first; the last is always 1."""
    if kind_of_device(model) == "cuda":
        # One computes while the other travels.
        return [2, 1]
    most = max(1, cpus // (threads or 1))
    return [most >> halved for halved in range(most.bit_length())]


def _threads(cpus: int, lanes: int, model: Model) -> int:
    """CPU threads of one prediction; a GPU needs none but the lane itself."""
    return 1 if kind_of_device(model) == "cuda" else max(1, cpus // lanes)
