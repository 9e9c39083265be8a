"""Histograms of the regions of each class, ready to be drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.card import Card
from tilseg.regions import RegionTable
from tilseg.report.histogram import Histogram, histogram
from tilseg.report.words import area_unit

# Of the classes with the most regions, if they have so many.
_MOST_CLASSES, _LEAST_REGIONS = 6, 8
_MEASURES = {
    "eccentricity": "eccentricity: 0 round, 1 long",
    "intensity_mean-0": "mean of the first band",
}


@dataclass(frozen=True, slots=True)
class Chart:
    """One histogram; what it is of stands in its titles. color: of the class."""

    measure: str
    name: str
    color: str
    bars: Histogram


def charts(regions: RegionTable, card: Card, summary: dict[str, Any]) -> list[list[Chart]]:
    """For each class with regions: how their areas, shapes and intensities are spread."""
    counts = {info["value"]: info["regions"] or 0 for info in summary["classes"]}
    counts = {value: count for value, count in counts.items() if count >= _LEAST_REGIONS}
    most = sorted(counts, key=lambda value: -counts[value])[:_MOST_CLASSES]
    found = [_of_class(regions, card, value, summary["area_unit"]) for value in sorted(most)]
    return [each for each in found if each]


def _of_class(regions: RegionTable, card: Card, value: int, unit: str | None) -> list[Chart]:
    chosen, info = regions.columns["class"] == value, card.classes[value]
    shown = {name: values[chosen] for name, values in regions.columns.items() if name in _MEASURES}
    measured = [(_MEASURES[name], histogram(values, log=False)) for name, values in shown.items()]
    areas, name = _areas(regions, unit)
    measured.insert(0, (f"area, {name}", histogram(areas[chosen], log=True)))
    return [Chart(title, info.name, info.color, bars) for title, bars in measured if bars]


def _areas(regions: RegionTable, unit: str | None) -> tuple[NDArray[Any], str]:
    """In the unit that suits the median of them all, and its name."""
    if unit is None:
        return regions.columns["area"], "px"
    areas = regions.columns[f"area_{unit}2"]
    square, name = area_unit(float(np.median(areas)), unit)
    return areas / square, name
