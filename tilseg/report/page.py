"""The page of a result, from what its run has just finished."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tilseg.card import Card
from tilseg.errors import printable
from tilseg.georef import Georef
from tilseg.journal import BlockRecord
from tilseg.look import Look, choose_look
from tilseg.pages.page import inline, render
from tilseg.plan import Plan
from tilseg.regions import RegionTable
from tilseg.regions.units import ground_size
from tilseg.report import words
from tilseg.report.charts import charts
from tilseg.report.closeups import Closeup, close_up
from tilseg.report.command import command_of
from tilseg.report.histogram import nice
from tilseg.report.layers import NODATA_COLOR, Painter
from tilseg.report.overview import Overview, make_overview, windows_of_deaths
from tilseg.report.places import choose_places
from tilseg.source import Source, image_name
from tilseg.sources.resampled import ResampledSource
from tilseg.stores import Stores
from tilseg.window import Size, Window

# Units of the drawings: along the longer side of the overview, and of a close-up.
_OVERVIEW, _CLOSEUP = 1200, 320
# Of classes beside the overview.
_MOST_KEYS = 40
_TITLES = {
    "largest": "Largest",
    "smallest": "Smallest",
    "random": "Chosen at random",
    "in doubt": "Most uncertain",
}


@dataclass(frozen=True, slots=True)
class Finished:
    """All that a report is made from.

    source: on the grid that was segmented. georef: the place of the mask. numbers: of the regions
    in a window of the mask, or its classes. outputs: masks that were written. files: names in the
    result, and what each is.
    """

    plan: Plan
    source: Source
    card: Card
    georef: Georef
    stores: Stores
    numbers: Callable[[Window], NDArray[Any]]
    regions: RegionTable | None
    records: Collection[BlockRecord]
    summary: dict[str, Any]
    inexact: dict[str, Any] | None
    outputs: tuple[str, ...]
    files: Sequence[tuple[str, str]]

    @property
    def image(self) -> Source:
        """The image as it is: what was resampled has no coarse levels to show."""
        return self.source.image if isinstance(self.source, ResampledSource) else self.source


def report_page(of: Finished) -> str:
    """The HTML: the same for the same result, however it came about, and below 3 MB.

    It reads a coarse level of image and mask, and a dozen small windows of both. What can't be
    read of the image is left grey; raises DamageError for a damaged mask.
    """
    painter, look = Painter.of(of.card), choose_look(of.image, of.plan.bands)
    closeups = _closeups(of, painter, look)
    overview = make_overview(
        of.image,
        look,
        of.stores.mask,
        of.plan.grid,
        painter,
        of.records,
        of.plan.selection.tissue,
    )
    bad = [tile for record in of.records for tile in record.bad]
    skipped = of.summary["blocks"]["skipped"]
    return render(
        Path(__file__).with_name("report.html.j2"),
        title=printable(image_name(of.plan.source)),
        summary=of.summary,
        class_heads=words.CLASS_HEADS,
        classes=words.class_rows(of.summary, of.regions, of.card),
        shown=_shown(of),
        background=of.card.background,
        nodata=_nodata(of),
        warnings=words.warnings(of.image, of.card, of.summary, bad, of.inexact),
        overview=overview,
        view=_view(of, overview, closeups),
        skipped=words.skipped_text(skipped) if skipped else "",
        charts=[] if of.regions is None else charts(of.regions, of.card, of.summary),
        closeups=[_described(of, each) for each in closeups],
        facts=words.provenance(of.plan, of.source, of.card),
        command=command_of(of.plan, of.card, of.image, of.outputs, masked=bool(bad)),
        files=of.files,
        inline=inline,
        number=words.number,
    )


def _closeups(of: Finished, painter: Painter, look: Look) -> list[Closeup]:
    mask = of.stores.mask
    places = choose_places(of.regions, of.stores.probabilities, mask.shape)
    deadly = windows_of_deaths(of.records)
    return [
        close_up(each, of.source, of.plan.level, look, mask.read, of.numbers, painter, deadly)
        for each in places
    ]


def _shown(of: Finished) -> list[tuple[str, str]]:
    """Colour and name of the classes that the overlay shows."""
    there = [
        (of.card.classes[info["value"]].color, info["name"])
        for info in of.summary["classes"]
        if info["pixels"] and info["value"] != of.card.background
    ]
    return there[:_MOST_KEYS]


def _nodata(of: Finished) -> tuple[str, str] | None:
    pixels = of.summary["nodata_pixels"]
    share = 100 * pixels / of.plan.grid.shape.area
    return (NODATA_COLOR, f"no data, {share:.2g} %") if pixels else None


def _view(of: Finished, overview: Overview, closeups: Sequence[Closeup]) -> dict[str, Any]:
    """What lies on the overview, in its units: boxes of the close-ups and a scale bar."""
    shape = of.stores.mask.shape
    width, height = fitted(overview.layers.size, _OVERVIEW)
    rows, cols = height / shape.rows, width / shape.cols
    boxes = [_box(each.place.window, rows, cols) for each in closeups]
    return {"width": width, "height": height, "boxes": boxes, "bar": _bar(of, width, shape)}


def _box(window: Window, rows: float, cols: float) -> tuple[float, float, float, float]:
    """x, y, width and height of a window whose pixels are drawn with these heights and widths."""
    return window.col * cols, window.row * rows, window.cols * cols, window.rows * rows


def fitted(size: Size, longest: int) -> tuple[float, float]:
    """Width and height of a picture whose longer side is `longest`."""
    scale = longest / max(size)
    return size.cols * scale, size.rows * scale


def _bar(of: Finished, width: float, shape: Size) -> tuple[float, str] | None:
    """Length of a scale bar in units of the overview, and what it stands for."""
    pixel = ground_size(of.georef, shape)
    if pixel is None or pixel.unit == "degree":
        return None
    whole = shape.cols * pixel.cols
    length = nice(whole / 4)
    large = {"um": ("mm", 1000), "m": ("km", 1000)}.get(pixel.unit)
    text = f"{length:g} {words.symbol(pixel.unit)}"
    if large is not None and length >= large[1]:
        text = f"{length / large[1]:g} {large[0]}"
    return width * length / whole, text


def _described(of: Finished, each: Closeup) -> dict[str, Any]:
    """A close-up as the template takes it."""
    window, row = each.place.window, each.place.row
    width, height = fitted(each.layers.size, _CLOSEUP)
    lines = [] if row is None or of.regions is None else _region(of, of.regions, row)
    if each.place.doubt is not None:
        lines.append(f"the two likeliest classes are {100 * (1 - each.place.doubt):.0f} % apart")
    if not each.read:
        lines.append("the image could not be read here")
    lines.append(f"rows {window.row:,} to {window.row_stop:,}")
    lines.append(f"columns {window.col:,} to {window.col_stop:,}")
    scale = width / window.cols
    return {
        "box": None if each.place.box is None else _box(each.place.box, scale, scale),
        "title": _TITLES[each.place.why],
        "lines": lines,
        "layers": each.layers,
        "width": width,
        "height": height,
    }


def _region(of: Finished, regions: RegionTable, row: int) -> list[str]:
    columns, unit = regions.columns, of.summary["area_unit"]
    pixels = f"{columns['area'][row]:,} px"
    on_ground = None if unit is None else float(columns[f"area_{unit}2"][row])
    areas = pixels if on_ground is None else f"{words.area(on_ground, unit)} ({pixels})"
    name = of.card.classes[int(columns["class"][row])].name
    return [f"region {columns['label'][row]:,}, {name}", areas]
