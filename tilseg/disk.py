"""How much disk a run takes, asked before it takes it.

Masks compress by their content, so there are two figures. Level 0 of the masks that people
make took 0.02 to 0.6 bits a pixel for two classes and up to 1.2 for eight; a quarter of a bit
for each bit of the class number is expected. The bound is white noise, which zstd stores in
1.5 times its entropy. A run is refused only when the expected does not fit.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from tilseg.budget import format_bytes
from tilseg.errors import OutputError
from tilseg.plan import Plan

_EXPECTED_BITS = 0.25
_NOISE_BITS = 1.6
# Of level 0, as measured on the same masks: with its pyramid; the export; what the COG is copied
# from, and its overviews, while both are there.
_PYRAMID, _EXPORT, _COPY = 1.6, 1.4, 2.0
# Bytes a pixel of the tables of regions, in the workspace and in the result, and of labels.zarr or the
# like of it from which instances are read:
# as measured on stained nuclei, and on white noise of three classes.
_TABLES, _TABLES_NOISE = 0.2, 30.0
_LABELS, _LABELS_NOISE = 0.2, 6.0
# Of each file of polygons, on the same.
_POLYGONS, _POLYGONS_NOISE = 0.5, 200.0
# No file takes less.
_SECTOR = 4096


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes by what they are for: `parts` as expected, and in all at most `bound`."""

    parts: dict[str, int]
    bound: int

    @property
    def total(self) -> int:
        return sum(self.parts.values())


def needed(
    plan: Plan, classes: int, outputs: tuple[str, ...], *, is_map: bool, level0: int = 0
) -> Need:
    """What a run of `plan` takes on disk at its fullest moment.

    outputs: some of "zarr" and "tif"; the zarr is made in any case. is_map: the tif is a COG.
    level0: bytes of level 0, once it is there; 0 to estimate.
    """
    parts = {"mask.zarr": _PYRAMID}
    if "tif" in outputs:
        # On the image's grid again, if it was resampled and is a map.
        pixels = math.prod(plan.factors) if plan.factors and is_map else 1.0
        parts["mask.tif"] = _EXPORT * pixels
        if is_map:
            parts["staging"] = _COPY * pixels
    grid = plan.grid
    bits = math.log2(max(classes, 2)) * grid.shape.area / 8
    least = len(grid) * _SECTOR
    expected = level0 or max(int(bits * _EXPECTED_BITS), least)
    bound = level0 or max(int(bits * _NOISE_BITS), least)
    each = {name: int(factor * expected) for name, factor in parts.items()}
    most = int(sum(parts.values()) * bound)
    if plan.probabilities:
        # Of each pixel and class, half a byte is expected, and a byte the most.
        copies = sum(parts.values())
        each["probabilities"] = int(copies * classes * grid.shape.area / 2)
        most += int(copies * classes * grid.shape.area)
    if plan.regions is not None:
        each["regions"] = int(_TABLES * grid.shape.area)
        most += int(_TABLES_NOISE * grid.shape.area)
        if plan.regions.rule is not None:
            each["instances"] = int(_LABELS * grid.shape.area)
            most += int(_LABELS_NOISE * grid.shape.area)
        if plan.regions.labels:
            each["labels.zarr"] = int(_LABELS * grid.shape.area)
            most += int(_LABELS_NOISE * grid.shape.area)
        if plan.regions.polygons:
            # One more: the corners, until all are written.
            files = 1 + len(plan.regions.polygons)
            each["polygons"] = int(_POLYGONS * grid.shape.area * files)
            most += int(_POLYGONS_NOISE * grid.shape.area * files)
    return Need(each, most)


def check_disk(path: Path, need: Need, used: int) -> None:
    """Raises OutputError E-DISK unless what is expected still fits beside `path`.

    used: bytes of it that are there already.
    """
    free = shutil.disk_usage(path.parent).free
    if need.total - used > free:
        raise OutputError(
            "E-DISK",
            path=path,
            needed=format_bytes(need.total - used),
            parts=", ".join(f"{name} {format_bytes(size)}" for name, size in need.parts.items()),
            bound=format_bytes(max(need.bound - used, 0)),
            free=format_bytes(free),
        )


def tree_bytes(root: Path) -> int:
    """Bytes of all files below `root`; 0 where there is no such folder."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
