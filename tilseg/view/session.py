"""A result that is looked at: its tiles, places and regions, as a page asks for them."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.georef import Georef
from tilseg.lengths import convert
from tilseg.nodata import NODATA
from tilseg.regions.map_grid import MapGrid
from tilseg.regions.units import ground_size
from tilseg.resample import nearest
from tilseg.sinks.ngff import rgb
from tilseg.sinks.shards import BlockArray
from tilseg.sinks.zarr import MaskStore
from tilseg.source import Level
from tilseg.view.grid import OVERLAP, TILE, ViewGrid
from tilseg.view.overlay import Growing, OneBand, Overlay, Values
from tilseg.view.picture import Picture
from tilseg.view.png import palette_png, rgb_png
from tilseg.view.pointer import RegionFinder
from tilseg.view.regions import Regions
from tilseg.view.result import open_result
from tilseg.window import Size, Window

# Columns of the table, of those that a result has.
_COLUMNS = (
    "label",
    "class",
    "area",
    "area_um2",
    "area_m2",
    "perimeter_um",
    "perimeter_m",
    "eccentricity",
    "solidity",
    "intensity_mean-0",
)


class Session:
    """The result at `output`; positions are (row, col) in pixels of its image, or of the mask
    where the image is gone.

    All methods may be called from any thread. Raises what `open_result` does.
    """

    def __init__(self, output: Path) -> None:
        self._result = result = open_result(output)
        self._values: Growing | MaskStore | OneBand
        if result.summary is None:
            assert isinstance(result.mask, MaskStore)
            self._values = Growing(result.mask)
        elif isinstance(result.mask, MaskStore):
            self._values = result.mask
        else:
            self._values = OneBand(result.mask)
        mask_shape = self._values.levels[0].size
        self.grid = ViewGrid(mask_shape if result.image is None else result.image.shape)
        self._picture = None
        if result.image is not None:
            self._picture = Picture(result.image, result.plan.bands)
        self._overlay = Overlay(self._values, self.grid, result.factors)
        labels = None if result.labels is None else _Labels(result.labels)
        self._bordered = self._overlay
        if labels is not None:
            self._bordered = Overlay(labels, self.grid, result.factors)
        self._finder = self._make_finder(mask_shape, labels)
        self._map = _map(result.georef)

    def _make_finder(self, shape: Size, labels: Values | None) -> RegionFinder | None:
        options, path = self._result.plan.regions, self._result.regions
        if path is None or options is None:
            return None
        return RegionFinder(
            Regions(path),
            self._values.read,
            None if labels is None else labels.read,
            shape,
            options,
            self._result.card.background,
        )

    def stop(self) -> None:
        """End the threads; files are closed when nobody reads from them any more."""
        for part in (self._picture, self._values):
            if isinstance(part, Picture | Growing):
                part.close()

    def about(self) -> dict[str, Any]:
        """All that the page has to know at first."""
        result, summary = self._result, self._result.summary
        counts = [] if summary is None else summary["classes"]
        fractions = {each["value"]: each["fraction"] for each in counts}
        classes = [
            {
                "value": value,
                "name": info.name,
                "color": info.color,
                "background": value == result.card.background,
                "fraction": fractions.get(value),
            }
            for value, info in enumerate(result.card.classes)
        ]
        finder = self._finder
        return {
            "name": result.name,
            "rows": self.grid.shape.rows,
            "cols": self.grid.shape.cols,
            "tile": TILE,
            "overlap": OVERLAP,
            "zooms": self.grid.zooms,
            "image": self._picture is not None,
            "metres": self._metres(),
            "classes": classes,
            "regions": None if finder is None else len(finder.regions),
            "columns": [] if finder is None else self._columns(finder.regions),
            **self.state(),
        }

    def state(self) -> dict[str, Any]:
        """What changes: blocks that are done, how much of the image is read, and notices."""
        total = len(self._result.plan.grid)
        growing = self._values if isinstance(self._values, Growing) else None
        notices = list(self._result.notices)
        parts = (("image", self._picture), ("mask", self._overlay))
        for name, part in parts:
            if part is not None and part.damage:
                notices.append(f"A part of the {name} can't be read: {part.damage}.")
        return {
            "finished": growing is None,
            "blocks": total,
            "done": total if growing is None else growing.done,
            "read": 1.0 if self._picture is None else self._picture.progress,
            "notices": notices,
        }

    def image_tile(self, zoom: int, row: int, col: int) -> bytes | None:
        """A tile of the image as PNG; None where there is none."""
        window = self.grid.tile(zoom, row, col)
        if self._picture is None or window is None:
            return None
        return rgb_png(self._picture.tile(zoom, window))

    def mask_tile(
        self, zoom: int, row: int, col: int, shown: Collection[int], outlines: bool
    ) -> bytes | None:
        """A tile of the mask in the colours of the classes `shown`, or of their outlines alone."""
        window = self.grid.tile(zoom, row, col)
        if window is None:
            return None
        values = self._overlay.tile(zoom, window)
        if outlines:
            values = np.where(self._bordered.borders(zoom, window), values, np.uint8(NODATA))
        colors = np.zeros((256, 4), np.uint8)
        for value, info in enumerate(self._result.card.classes):
            if value in shown:
                colors[value] = (*rgb(info.color), 255)
        return palette_png(values.astype(np.uint8), colors)

    def at(self, row: float, col: float) -> dict[str, Any]:
        """What is at a position: its class, its place in the world and its region, if any."""
        pixel = Window(math.floor(row), math.floor(col), 1, 1)
        if not Window.whole(self.grid.shape).contains(pixel):
            return {}
        size, factors = self._values.levels[0].size, self._result.factors
        at_row = int(nearest(pixel.row, pixel.row + 1, size.rows, factors.rows)[0])
        at_col = int(nearest(pixel.col, pixel.col + 1, size.cols, factors.cols)[0])
        value = int(self._overlay.tile(0, pixel)[0, 0])
        index = None if self._finder is None else self._finder.at(at_row, at_col)
        return {
            "class": None if value == NODATA else value,
            "place": self._place(row, col),
            "region": None if index is None else self._region(index),
        }

    def region(self, label: int) -> dict[str, Any] | None:
        """All that is known of the region with a label; None where there is none."""
        known = self._finder is not None and 1 <= label <= len(self._finder.regions)
        return self._region(label - 1) if known else None

    def page(
        self, by: str, down: bool, start: int, count: int, around: int | None
    ) -> dict[str, Any] | None:
        """Rows of the table in order of a column; the page with the label `around` if given.

        None where there is no such column or region.
        """
        regions = None if self._finder is None else self._finder.regions
        if regions is None or by not in self._columns(regions):
            return None
        if around is not None:
            if not 1 <= around <= len(regions):
                return None
            start = regions.place(by, down, around - 1) // count * count
        rows = regions.page(by, down, start, count, self._columns(regions))
        return {"start": start, "total": len(regions), "rows": [_plain(each) for each in rows]}

    def _region(self, index: int) -> dict[str, Any]:
        assert self._finder is not None
        row = self._finder.regions.row(index)
        rows, cols = self._result.factors
        box = [row[f"bbox-{side}"] for side in range(4)]
        scaled = [box[0] * rows, box[1] * cols, box[2] * rows, box[3] * cols]
        return {"values": _plain(row), "box": scaled}

    def _columns(self, regions: Regions) -> list[str]:
        return [name for name in _COLUMNS if name in regions.columns]

    def _metres(self) -> list[float] | None:
        """Height and width of a pixel of the grid in metres; None where they are not known."""
        try:
            size = ground_size(self._result.georef, self.grid.shape)
        except InputError:
            return None
        if size is None:
            return None
        sides = [convert(side, size.unit, "m") for side in (size.rows, size.cols)]
        return None if None in sides else [side for side in sides if side is not None]

    def _place(self, row: float, col: float) -> dict[str, float]:
        """On a map, longitude and latitude, and x and y in its CRS; where it has such a place."""
        if self._map is None:
            return {}
        x, y = self._map.to_crs(np.array([row]), np.array([col]))
        lon, lat = self._map.to_wgs84(x, y)
        found = {"lon": lon[0], "lat": lat[0], "x": x[0], "y": y[0]}
        return {name: float(value) for name, value in found.items() if math.isfinite(value)}


class _Labels:
    """The label of every pixel of a labels.zarr, as `Values`."""

    def __init__(self, path: Path) -> None:
        names = sorted(int(each.name) for each in path.iterdir() if each.name.isdecimal())
        self._arrays = [BlockArray.open(path / str(name)) for name in names]
        self.levels = tuple(
            Level(array.shape, float(2**n), float(2**n)) for n, array in enumerate(self._arrays)
        )

    def read(self, window: Window, level: int = 0) -> NDArray[Any]:
        return self._arrays[level].read(window)


def _map(georef: Georef) -> MapGrid | None:
    if not georef.is_map or georef.crs is None:
        return None
    try:
        return MapGrid(georef)
    except InputError:
        return None


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
