"""`summary.json` and the receipt `run.json`: what a result holds and how it was made."""

from __future__ import annotations

import math
import platform
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from tilseg.card import Card, file_sha256
from tilseg.errors import printable
from tilseg.georef import Georef
from tilseg.journal import BadTile, BlockRecord
from tilseg.nodata import NODATA
from tilseg.plan import Plan
from tilseg.regions import RegionTable
from tilseg.regions.units import World
from tilseg.source import image_name
from tilseg.workspace import RECEIPT

# The receipt of a change, which has no plan.
CHANGE = "change.json"

_VERSIONS = ("tilseg", "torch", "numpy", "rasterio", "tifffile", "zarr", "distributed")

_bad_tiles = TypeAdapter(list[BadTile])


def summarise(
    plan: Plan,
    georef: Georef,
    card: Card,
    world: World | None,
    records: Collection[BlockRecord],
    regions: RegionTable | None,
    *,
    kept: int,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """The content of summary.json: pixels, area and regions of each class, blocks and time.

    georef: the place of the mask. fraction is of valid pixels; area is on the ground, in
    squared `area_unit`, None where it is not known. regions: those in the tables. instances: how
    they were told apart. kept: blocks computed in an earlier start; "skipped" are those for which
    the network was not asked, by the reason.
    """
    grid, pixel = plan.grid, georef.pixel_size
    rule = None if plan.regions is None else plan.regions.rule
    counts = _counts(records)
    nodata = counts.pop(NODATA, 0)
    return {
        "input": plan.source,
        "width": grid.shape.cols,
        "height": grid.shape.rows,
        "pixel_size": [pixel.rows, pixel.cols] if pixel else None,
        "unit": pixel.unit if pixel else None,
        "image_pixels": list(georef.factors),
        "area_unit": world.unit if world else None,
        "classes": _classes(card, counts, world, records, regions),
        "instances": None if rule is None else asdict(rule),
        "nodata_pixels": nodata,
        "blocks": _blocks(len(grid), records, kept),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "model": card.name,
        "tile": list(grid.tile),
        "halo": grid.field.halo,
        "stride": grid.field.stride,
        "tta": plan.tta,
        "redundancy": round(plan.redundancy, 4),
    }


def _counts(records: Collection[BlockRecord]) -> Counter[int]:
    """Pixels of each value of the mask."""
    counts: Counter[int] = Counter()
    for record in records:
        counts.update(dict(record.counts))
    return counts


def _classes(
    card: Card,
    counts: Counter[int],
    world: World | None,
    records: Collection[BlockRecord],
    regions: RegionTable | None,
) -> list[dict[str, Any]]:
    """Of each class what `summarise` says; counts: valid pixels of each."""
    valid = counts.total()
    found = None if regions is None else Counter(regions.columns["class"].tolist())
    return [
        {
            "value": value,
            "name": info.name,
            "pixels": counts[value],
            "fraction": counts[value] / valid if valid else None,
            "area": _area(value, counts[value], world, records),
            "regions": None if found is None or value == card.background else found[value],
        }
        for value, info in enumerate(card.classes)
    ]


def _blocks(total: int, records: Collection[BlockRecord], kept: int) -> dict[str, Any]:
    skipped = Counter(record.skipped for record in records if record.skipped is not None)
    return {
        "total": total,
        "done": len(records) - skipped.total() - kept,
        "kept": kept,
        "skipped": dict(skipped),
        "failed": 0,
    }


def _area(
    value: int, pixels: int, world: World | None, records: Collection[BlockRecord]
) -> float | None:
    """Area of the class `value`, from its pixels or, where these differ, from that of blocks."""
    if world is None:
        return None
    if world.method == "planar":
        return pixels * world.pixel_area
    areas = [record.areas[value] for record in records]
    # The CRS need not have a place for every pixel.
    return math.fsum(areas) if np.isfinite(areas).all() else None


def provenance(plan: Plan, card: Card) -> dict[str, str]:
    """How the masks of a run are made, for the tags of their files; see `tilseg.sink.Mask`."""
    grid = plan.grid
    return {
        "software": f"tilseg {version('tilseg')}",
        "source": printable(image_name(plan.source)),
        "model": card.name,
        "model_sha256": plan.model_sha256,
        "tile": f"{grid.tile.rows} x {grid.tile.cols}",
        "halo": str(grid.field.halo),
        "stride": str(grid.field.stride),
    }


def receipt(
    fingerprint: dict[str, Any],
    summary: dict[str, Any],
    plan: dict[str, Any],
    *,
    reader: str,
    notes: Sequence[str],
    card: Card,
    inexact: dict[str, Any] | None,
    records: Collection[BlockRecord],
    result: Path,
) -> dict[str, Any]:
    """The content of run.json for the files now in `result`.

    reader, notes: how the image was read. inexact: what tiling and precision
    change, see `tilseg.exactness`. records: of every block, in order of their index; "blocks" holds the CRC-32 of what
    each block stored. "files" holds the sha256 of every file; `tilseg.durable.seal` adds that of
    the receipt.
    """
    bad = [tile for record in records for tile in record.bad]
    statistics = plan["statistics"]
    return {
        "format": 1,
        "status": "degraded" if bad else "complete",
        "bad_tiles": _bad_tiles.dump_python(bad, mode="json"),
        "command": sys.argv,
        "versions": versions(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "reader": reader,
        "notes": list(notes),
        "model": card.model_dump(mode="json"),
        "inexact": inexact,
        # What the network sees where there are no data.
        "nodata_fill": {"method": "band mean", "values": statistics["mean"]},
        "summary": summary,
        "fingerprint": fingerprint,
        "plan": plan,
        "blocks": [list(record.crcs) for record in records],
        "files": {str(path.relative_to(result)): file_sha256(path) for path in files(result)},
    }


def versions() -> dict[str, str]:
    """Of tilseg and of what decides its bytes."""
    return {name: version(name) for name in _VERSIONS}


def bad_tiles(receipt: dict[str, Any]) -> tuple[BadTile, ...]:
    """The tiles a receipt names as left out."""
    return tuple(_bad_tiles.validate_python(receipt["bad_tiles"]))


def files(result: Path) -> list[Path]:
    """Every file of a result but the receipt itself, in a set order."""
    found = (path for path in result.rglob("*") if path.is_file())
    return sorted(path for path in found if path not in (result / RECEIPT, result / CHANGE))
