"""A change as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tilseg.changes.change import Change
from tilseg.changes.words import (
    CLASS_HEADS,
    TRANSITION_HEADS,
    area,
    class_rows,
    facts,
    ordered,
    transition_cells,
)
from tilseg.pages.page import inline, render

# What a page shows of long tables; the files hold all.
_MOST_LINES = 60
_MOST_REGIONS = 10


def change_page(found: Change, pictures: Mapping[str, bytes], factor: int) -> str:
    """The HTML. factor: pixels of the maps along a side of a dot of the pictures."""
    lines = ordered(found)
    return render(
        Path(__file__).with_name("change.html.j2"),
        found=found,
        nodata=np.iinfo(found.dtype).max,
        facts=facts(found),
        class_heads=CLASS_HEADS,
        classes=class_rows(found),
        heads=TRANSITION_HEADS,
        lines=[(each, transition_cells(found, each)) for each in lines[:_MOST_LINES]],
        hidden=max(0, len(lines) - _MOST_LINES),
        regions=_largest(found),
        region_count=0 if found.regions is None else len(found.regions),
        pictures={name: inline(content) for name, content in pictures.items()},
        factor=factor,
    )


def _largest(found: Change) -> list[tuple[str, ...]]:
    """Number, kind, size and place of the largest regions of change."""
    if found.regions is None:
        return []
    columns, kinds = found.regions.columns, [one.name for one in found.mask_classes]
    areas = columns.get(f"area_{found.area_unit}2")
    return [
        (
            str(columns["label"][row]),
            kinds[columns["class"][row]],
            f"{columns['area'][row]:,}",
            area(found, None if areas is None else float(areas[row])),
            f"{columns['centroid-0'][row]:.0f}, {columns['centroid-1'][row]:.0f}",
        )
        for row in np.argsort(-columns["area"], kind="stable")[:_MOST_REGIONS]
    ]
