"""What a report says in words and figures; nothing of it depends on how long anything took."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tilseg.card import Card
from tilseg.georef import PixelSize
from tilseg.journal import BadTile
from tilseg.plan import Plan
from tilseg.receipt import versions
from tilseg.regions import RegionTable
from tilseg.source import Source

CLASS_HEADS = ("class", "value", "pixels", "of valid", "area", "regions", "median region")

# Larger units of area, in squares of a unit.
_LARGER = {"um": ((1e6, "mm²"),), "m": ((1e6, "km²"), (1e4, "ha"))}
_MOST_TILES = 5
_FILES = {
    "mask.tif": "the mask, for QGIS and QuPath",
    "mask.zarr": "the mask, for napari and for code",
    "probabilities.tif": "the probability of every class",
    "probabilities.zarr": "the same, for napari and for code",
    "labels.zarr": "the number of the region of every pixel",
    "regions.csv": "a row for each region",
    "regions.parquet": "the same, for code and a GIS",
    "regions.geojson": "outlines of the regions, for QuPath",
    "regions.gpkg": "outlines of the regions, for a GIS",
    "regions.fgb": "outlines of the regions, for a GIS",
    "summary.json": "the figures of this page",
    "run.json": "the receipt: how the result was made, and a checksum of every file",
}
_SKIPPED = {
    "tissue": "without tissue",
    "roi": "outside the region of interest",
    "nodata": "without data",
}


def described_files(names: Iterable[str]) -> list[tuple[str, str]]:
    """Those of a result that a person may open, and what each is."""
    there = {*names, "summary.json", "run.json"}
    return [(name, what) for name, what in _FILES.items() if name in there]


def number(value: float) -> str:
    """About four digits: 0.0312, 7.5, 1,268, 2.3e+07."""
    if 1e3 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def area(value: float | None, unit: str | None) -> str:
    """An area given in squared `unit`, in the unit that suits it, or a dash."""
    if value is None or unit is None:
        return "-"
    square, name = area_unit(value, unit)
    return f"{number(value / square)} {name}"


def area_unit(value: float, unit: str) -> tuple[float, str]:
    """The unit that suits an area given in squared `unit`: its size in these, and its name."""
    fitting = ((size, name) for size, name in _LARGER.get(unit, ()) if value >= size)
    return next(fitting, (1.0, f"{symbol(unit)}²"))


def symbol(unit: str) -> str:
    """A unit as it is written: µm for "um"."""
    return "µm" if unit == "um" else unit


def size(pixel: PixelSize | None) -> str:
    """Width and height of a pixel."""
    if pixel is None:
        return "not stated"
    return f"{pixel.cols:.6g} x {pixel.rows:.6g} {symbol(pixel.unit)}"


def class_rows(
    summary: dict[str, Any], regions: RegionTable | None, card: Card
) -> list[tuple[str, tuple[str, ...]]]:
    """Colour, and cells as `CLASS_HEADS` names them, of each class."""
    unit = summary["area_unit"]
    return [
        (
            card.classes[info["value"]].color,
            (
                info["name"],
                str(info["value"]),
                f"{info['pixels']:,}",
                "-" if info["fraction"] is None else f"{100 * info['fraction']:.2f} %",
                area(info["area"], unit),
                "-" if info["regions"] is None else f"{info['regions']:,}",
                "-" if regions is None else _median(regions, info["value"], unit),
            ),
        )
        for info in summary["classes"]
    ]


def _median(regions: RegionTable, value: int, unit: str | None) -> str:
    chosen = regions.columns["class"] == value
    if not chosen.any():
        return "-"
    if unit is None:
        return f"{np.median(regions.columns['area'][chosen]):,g} px"
    return area(float(np.median(regions.columns[f"area_{unit}2"][chosen])), unit)


def skipped_text(skipped: Mapping[Any, int]) -> str:
    """ "not segmented: 12 without tissue, 3 outside the region of interest": blocks by reason."""
    parts = [f"{skipped[name]:,} {text}" for name, text in _SKIPPED.items() if name in skipped]
    return f"not segmented: {', '.join(parts)}"


def warnings(
    source: Source,
    card: Card,
    summary: dict[str, Any],
    bad: Sequence[BadTile],
    inexact: dict[str, Any] | None,
) -> list[str]:
    """What a reader must know before believing a figure."""
    found = list(source.notes)
    if bad:
        named = "; ".join(f"{tile.window}: {tile.reason}" for tile in bad[:_MOST_TILES])
        more = f"; and {len(bad) - _MOST_TILES:,} more in run.json" * (len(bad) > _MOST_TILES)
        found.insert(0, f"{len(bad):,} tiles could not be computed and are no data: {named}{more}.")
    found += _inexact(inexact or {})
    if card.pixel_size is not None and source.georef.pixel_size is None:
        trained = f"{card.pixel_size:g} {card.unit}"
        found.append(f"The image states no pixel size; the model was trained at {trained}.")
    if not _foreground(summary, card):
        found.append("No pixel has a class other than the background.")
    return found


def _inexact(measured: dict[str, Any]) -> list[str]:
    """What `tilseg.exactness.inexactness` has found."""
    found = []
    if tiling := measured.get("tiling"):
        found.append(
            f"The model is not exact when cut into tiles ({tiling['reason']}): with half the tile, "
            f"{100 * tiling['labels']:.2g} % of pixels in the middle of the image get another class."
        )
    if precision := measured.get("precision"):
        found.append(
            f"In {precision['precision']}, {100 * precision['labels']:.2g} % of "
            f"{precision['pixels']:,} pixels of this image get another class than in fp32."
        )
    return found


def _foreground(summary: dict[str, Any], card: Card) -> bool:
    return any(info["pixels"] for info in summary["classes"] if info["value"] != card.background)


def provenance(plan: Plan, source: Source, card: Card) -> list[tuple[str, list[tuple[str, str]]]]:
    """Headings, each with names and values: of the image, the model and how it ran."""
    grid = plan.grid
    at = source.levels[plan.level]
    pixel = source.georef.decimated(at.row_factor, at.col_factor).pixel_size
    bands = (source.band_names[band] or str(band + 1) for band in plan.bands)
    tiles = f"{grid.tile.cols} x {grid.tile.rows} px, in blocks of {grid.block.cols} x {grid.block.rows}"
    resampled = "resampled to " if plan.factors else f"level {plan.level}, "
    return [
        (
            "Image",
            [
                ("path", plan.source),
                ("reader", source.reader),
                ("segmented", f"{resampled}{grid.shape.cols:,} x {grid.shape.rows:,} px"),
                ("pixel", size(pixel)),
                ("bands", ", ".join(bands)),
            ],
        ),
        (
            "Model",
            [
                ("name", card.name),
                *([("what it is", card.description)] if card.description else []),
                ("network", card.architecture),
                ("sha256", plan.model_sha256),
                ("file", plan.model),
                *([("licence", card.licence)] if card.licence else []),
            ],
        ),
        (
            "Run",
            [
                ("tiles", tiles),
                ("context of a tile", f"{grid.field.halo} px on each side"),
                ("arithmetic", f"{plan.precision} on {plan.device}, {plan.threads} threads"),
                ("averaged over", "one prediction" if plan.tta == "none" else plan.tta),
                ("versions", ", ".join(f"{k} {v}" for k, v in _versions().items())),
            ],
        ),
    ]


def _versions() -> dict[str, str]:
    return {**versions(), "python": platform.python_version()}
