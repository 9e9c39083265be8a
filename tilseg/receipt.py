"""`summary.json` and the receipt `run.json`: what a result holds and how it was made."""

from __future__ import annotations

import os
import platform
import sys
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tilseg.card import Card, file_sha256
from tilseg.infer import NODATA
from tilseg.journal import BlockRecord
from tilseg.plan import Plan
from tilseg.source import Source

_VERSIONS = ("tilseg", "torch", "numpy", "rasterio", "tifffile", "zarr", "distributed")


def summarise(
    plan: Plan,
    source: Source,
    card: Card,
    records: Iterable[BlockRecord],
    *,
    skipped: int,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """The content of summary.json: pixels and area of each class, blocks and time.

    fraction is of valid pixels; area is in squared `unit`, None where a pixel's area is not
    the same everywhere or not known. skipped: blocks taken over from an earlier start.
    """
    counts: Counter[int] = Counter()
    done = 0
    for record in records:
        counts.update(dict(record.counts))
        done += 1
    nodata = counts.pop(NODATA, 0)
    valid = counts.total()
    grid, level = plan.grid, source.levels[plan.level]
    pixel = source.georef.decimated(level.row_factor, level.col_factor).pixel_size
    area = pixel.area if pixel else None
    return {
        "input": plan.source,
        "width": grid.shape.cols,
        "height": grid.shape.rows,
        "pixel_size": [pixel.rows, pixel.cols] if pixel else None,
        "unit": pixel.unit if pixel else None,
        "classes": [
            {
                "value": value,
                "name": info.name,
                "pixels": counts[value],
                "fraction": counts[value] / valid if valid else None,
                "area": None if area is None else counts[value] * area,
            }
            for value, info in enumerate(card.classes)
        ],
        "nodata_pixels": nodata,
        "blocks": {"total": len(grid), "done": done - skipped, "skipped": skipped, "failed": 0},
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "model": card.name,
        "tile": list(grid.tile),
        "halo": grid.field.halo,
        "stride": grid.field.stride,
        "redundancy": round(grid.redundancy, 4),
    }


def receipt(
    fingerprint: dict[str, Any],
    plan: dict[str, Any],
    source: Source,
    card: Card,
    records: Iterable[BlockRecord],
    result: Path,
) -> dict[str, Any]:
    """The content of run.json for the files now in `result`.

    Level 0 of the mask is covered by one CRC-32 of the labels a block, every other file by its
    sha256.
    """
    return {
        "format": 1,
        "status": "complete",
        "command": sys.argv,
        "versions": {name: version(name) for name in _VERSIONS},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "reader": source.reader,
        "model": card.model_dump(mode="json"),
        "fingerprint": fingerprint,
        "plan": plan,
        "blocks": [r.crc for r in sorted(records, key=lambda record: record.index)],
        "files": {
            str(path.relative_to(result)): file_sha256(path) for path in _other_files(result)
        },
    }


def _other_files(result: Path) -> Iterable[Path]:
    for folder, _, names in os.walk(result):
        if Path(folder).is_relative_to(result / "mask.zarr" / "0" / "c"):
            continue
        yield from sorted(Path(folder) / name for name in names)
