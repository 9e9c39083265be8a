"""Choosing a plan: what is segmented at which pixel size, normalisation, and a tiling."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence

from tilseg.bands import choose_bands
from tilseg.budget import available_memory, format_bytes, parse_memory, usable_cpus
from tilseg.calibration import calibrated
from tilseg.errors import ModelError, ResourceError, UsageError
from tilseg.model import Model, Precision
from tilseg.plan import Plan, RegionOptions
from tilseg.resolution import choose_factors
from tilseg.source import Source
from tilseg.sources.planned import in_whole_rows
from tilseg.sources.resampled import on_grid
from tilseg.statistics import band_statistics
from tilseg.tiling import Share, choose_tiling, kind_of_device, needed_memory
from tilseg.where.choosing import check_some, choose_selection

ALL_REGIONS = RegionOptions()


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
    _check_exact(model, allow_inexact)
    _check_level(source, level or 0)
    auto = _left_open(tile=tile, bands=bands, level=level, threads=threads)
    factors = choose_factors(source, model.card, resolution, level)
    image, source, level = source, on_grid(source, factors), level or 0
    indices = choose_bands(source, model.card, bands)
    share = _share(memory, cpus, processes)
    _check_segment(source, share.memory)
    selection = choose_selection(
        image, source, model.card, level=level, bands=indices, tissue=tissue, roi=roi
    )
    needs = functools.partial(
        needed_memory,
        source=source,
        model=model,
        workers=workers,
        probabilities=probabilities,
        regions=regions is not None,
    )
    shape = source.levels[level].size
    tiling = choose_tiling(shape, model, share, needs, tile=tile, threads=threads)
    check_some(source, selection, tiling.grid)
    rows = in_whole_rows(image, level, indices, factors, tiling.grid)
    room = share.memory - needs(tiling.grid, tiling.lanes)
    plan = Plan(
        grid=tiling.grid,
        source=source.uri,
        level=level,
        bands=indices,
        model=model.uri,
        model_sha256=model.sha256,
        statistics=band_statistics(source, model.card.normalization, level=level, bands=indices),
        precision=precision,
        device=kind_of_device(model),
        threads=tiling.threads,
        tta=model.tta,
        lanes=tiling.lanes,
        keep_rows=rows is not None and rows.kept_bytes <= room,
        probabilities=probabilities,
        regions=_settled(regions, model),
        factors=factors,
        selection=selection,
        auto=auto,
    )
    return calibrated(plan, source) if precision == "int8" else plan


def _check_exact(model: Model, allow_inexact: bool) -> None:
    if model.card.inexact and not allow_inexact:
        raise ModelError("E-MODEL-INEXACT", path=model.uri, reason=model.card.inexact)


def _left_open(**options: object) -> tuple[str, ...]:
    """Names of the options that are for us to choose."""
    return tuple(name for name, value in options.items() if value is None)


def _share(memory: str | int | None, cpus: int | None, processes: int) -> Share:
    budget = parse_memory(memory) if isinstance(memory, str) else memory or available_memory()
    return Share(budget // processes, max(1, (cpus or usable_cpus()) // processes), processes)


def _settled(regions: RegionOptions | None, model: Model) -> RegionOptions | None:
    if regions is None:
        return None
    return regions.settled(model.card.instances, [info.name for info in model.card.classes])


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
