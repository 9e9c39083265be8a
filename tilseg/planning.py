"""Choosing a plan: bands, normalisation, and tiles and blocks that fit a memory budget."""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Callable, Sequence
from typing import Literal

from tilseg.bands import choose_bands
from tilseg.budget import available_memory, usable_cpus
from tilseg.calibration import calibrated
from tilseg.errors import ModelError, ResourceError, UsageError
from tilseg.model import Model, Precision
from tilseg.plan import Plan, RegionOptions, TileGrid, workers_for
from tilseg.receptive_field import ReceptiveField
from tilseg.resolution import choose_factors
from tilseg.source import Source
from tilseg.sources.resampled import ResampledSource, on_grid
from tilseg.statistics import band_statistics
from tilseg.where.choosing import check_some, choose_selection
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

ALL_REGIONS = RegionOptions()

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_memory(text: str) -> int:
    """Bytes of "4GB", "800MB", "2GiB" or a plain number; raises UsageError E-MEMORY-SIZE."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    if not match or (match[3] and not match[2]):
        raise UsageError("E-MEMORY-SIZE", memory=text)
    unit = match[2].upper()
    size = float(match[1]) * (_BINARY[unit] if match[3] else _UNITS[unit])
    if not 1 <= size < 2**63:
        raise UsageError("E-MEMORY-SIZE", memory=text)
    return int(size)


def format_bytes(count: float) -> str:
    """ "1.9 GB": decimal units, two digits."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def make_plan(
    source: Source,
    model: Model,
    *,
    tile: int | None = None,
    memory: str | int | None = None,
    workers: int | None = None,
    processes: int = 1,
    cpus: int | None = None,
    bands: Sequence[int] | None = None,
    level: int | None = None,
    resolution: str | float | None = None,
    precision: Precision = "fp32",
    threads: int | None = None,
    probabilities: bool = False,
    regions: RegionOptions | None = ALL_REGIONS,
    tissue: str | os.PathLike[str] | None = None,
    roi: str | os.PathLike[str] | None = None,
    allow_inexact: bool = False,
) -> Plan:
    """The plan of segmenting `source` with `model`; reads a sample of the image.

    model: as it was loaded: what its predictions are averaged over (`tta`) is part of the plan.
    tile: output step in pixels of both axes; None chooses what computes least within
        `memory` (bytes, or text such as "4GB"; None for 80 % of what the machine gives), and in
        80 % of what is free on a GPU.
    workers: blocks under way at once; None for as many as keep the network busy. processes: that
        share this machine, each with its share of memory and CPUs. cpus: of
        the machine that computes; None for this one's. bands: 1-based; None for those
        that `choose_bands` finds. level: pyramid level; None for 0.
    resolution: pixel size to segment at: a number in the image's own unit, a length such as
        "0.5um" or "10m" (on a map, on the ground in its middle), or "native" for the image's own;
        None for the model's where the image's is known and differs by more than a tenth.
    precision: for "int8", the ranges of the network's maps are found on a few windows of the image,
        predicted in float32. threads: CPU threads of one prediction; None for as few as memory allows, since several
        predictions side by side get more out of a CPU than one on all of it.
    probabilities: keep those of every class beside the mask. regions: how to measure regions,
        None for not at all.
    tissue: "auto" finds where there is tissue, a path reads it from a mask, "none" takes all, None
        does what the model's card asks: pixels outside it are background. roi: GeoJSON of the
        regions of interest: pixels outside them are nodata.
    allow_inexact: take a model whose result depends on the tile; `run` records by how much.

    Raises ModelError E-MODEL-INEXACT without that, UsageError for an illegal tile or level,
    or E-PIXEL-UNIT; InputError E-INPUT-BAND, E-INPUT-BANDS, E-INPUT-BAND-NAMES, E-PIXEL-UNKNOWN,
    E-PIXEL-FACTOR, E-TISSUE-NONE, E-TISSUE-MASK, E-ROI, E-ROI-OUTSIDE; and ResourceError: E-MEMORY
    when nothing fits, E-MEMORY-DEVICE when a GPU has no room for a small tile, E-MEMORY-SEGMENT when
    one strip, tile or chunk of the image takes more than a quarter of the memory.
    """
    if model.card.inexact and not allow_inexact:
        raise ModelError("E-MODEL-INEXACT", path=model.uri, reason=model.card.inexact)
    chosen = [
        name
        for name, value in {
            "tile": tile,
            "bands": bands,
            "level": level,
            "threads": threads,
        }.items()
        if value is None
    ]
    _check_level(source, level or 0)
    factors = choose_factors(source, model.card, resolution, level)
    image, source, level = source, on_grid(source, factors), level or 0
    indices = choose_bands(source, model.card, bands)
    budget = parse_memory(memory) if isinstance(memory, str) else memory or available_memory()
    budget //= processes
    _check_segment(source, budget)
    needs = functools.partial(
        needed_memory,
        source=source,
        model=model,
        workers=workers,
        probabilities=probabilities,
        regions=regions is not None,
    )
    cpus = max(1, (cpus or usable_cpus()) // processes)
    selection = choose_selection(
        image, source, model.card, level=level, bands=indices, tissue=tissue, roi=roi
    )
    grid, lanes = _choose_grid(
        source, model, level, tile, processes, budget, needs, _lanes(cpus, threads, model)
    )
    check_some(source, selection, grid)
    plan = Plan(
        grid=grid,
        source=source.uri,
        level=level,
        bands=indices,
        model=model.uri,
        model_sha256=model.sha256,
        statistics=band_statistics(source, model.card.normalization, level=level, bands=indices),
        precision=precision,
        device=_device_kind(model),
        threads=threads or _threads(cpus, lanes, model),
        tta=model.tta,
        lanes=lanes,
        probabilities=probabilities,
        regions=_settled(regions, model),
        factors=factors,
        selection=selection,
        auto=tuple(chosen),
    )
    return calibrated(plan, source) if precision == "int8" else plan


def _settled(regions: RegionOptions | None, model: Model) -> RegionOptions | None:
    if regions is None:
        return None
    return regions.settled(model.card.instances, [info.name for info in model.card.classes])


def _device_kind(model: Model) -> Literal["cpu", "cuda"]:
    return "cuda" if model.device.startswith("cuda") else "cpu"


def _check_level(source: Source, level: int) -> None:
    if not 0 <= level < len(source.levels):
        sizes = ", ".join(
            f"{number} ({at.size.cols} x {at.size.rows})" for number, at in enumerate(source.levels)
        )
        raise UsageError("E-LEVEL", level=level, path=source.uri, levels=sizes)


def _check_segment(source: Source, budget: int) -> None:
    size, bound = source.segment_bytes, budget // 4
    if size > bound:
        raise ResourceError(
            "E-MEMORY-SEGMENT",
            path=source.uri,
            size=format_bytes(size),
            bound=format_bytes(bound),
        )


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
    """Bytes a process takes at most for a run on `grid`, beside the tables of its regions."""
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
    one = (_REGION_BYTES + 2 * pixel) * grid.block.area if regions else 0
    return _BASE_BYTES + workers * block + one + lanes * model.working_bytes(grid.input)


def _lanes(cpus: int, threads: int | None, model: Model) -> list[int]:
    """How many predictions at once to try, the fastest first; the last is always 1."""
    if _device_kind(model) == "cuda":
        # One computes while the other travels.
        return [2, 1]
    most = max(1, cpus // (threads or 1))
    return [most >> halved for halved in range(most.bit_length())]


def _threads(cpus: int, lanes: int, model: Model) -> int:
    """CPU threads of one prediction; a GPU needs none but the lane itself."""
    return 1 if _device_kind(model) == "cuda" else max(1, cpus // lanes)


def _choose_grid(
    source: Source,
    model: Model,
    level: int,
    tile: int | None,
    processes: int,
    budget: int,
    needs: Callable[[TileGrid, int], int],
    lanes: list[int],
) -> tuple[TileGrid, int]:
    """The grid, and how many of its tiles to predict at once.

    A smaller tile costs more than fewer lanes win, so lanes are given up first.
    """
    shape, field = source.levels[level].size, model.field
    if tile is not None:
        field.check_step(tile)
        steps = [Size(*(min(tile, field.step_covering(side)) for side in shape))]
    else:
        caps = _input_caps(field, model.largest_input(processes))
        steps = [Size(*(_best_step(field, side, cap) for side in shape)) for cap in caps]
    smallest: int | None = None
    for step in steps:
        largest = min(_BLOCK, math.isqrt(shape.area) // _BLOCKS_A_SIDE)
        grids = [
            TileGrid(shape, field, step, _tiles_per_block(shape, step, target))
            for target in (largest, largest // 2, 1)
        ]
        for count in lanes:
            if count > 1 and grids[0].tile_counts.area < _TILES_A_LANE * count:
                continue
            for grid in grids:
                needed = needs(grid, count)
                if needed <= budget:
                    return grid, count
                smallest = needed if smallest is None else min(smallest, needed)
    raise ResourceError("E-MEMORY", needed=format_bytes(smallest or 0), budget=format_bytes(budget))


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
