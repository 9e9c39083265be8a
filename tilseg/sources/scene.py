"""A scene: several files of one place as one image, the bands of one after those of the other."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.choice import Choice
from tilseg.errors import InputError, UsageError
from tilseg.names import distinct_words, is_address, joined
from tilseg.source import Source
from tilseg.sources.aligned import AlignedSource
from tilseg.sources.base import BaseSource
from tilseg.sources.place import same_place
from tilseg.window import Window


class SceneSource(BaseSource):
    """The files `names`, opened as `images`, in this order.

    They have one dtype and lie on one grid, or, with `choice.align`, are brought to the finest
    one among them. A file of one band names it by what its name doesn't share with the others.
    A pixel is masked where any of the files masks it, or does not reach. It is nodata where every
    file holds the value that it states for that.

    Raises UsageError E-SCENE-TWICE; InputError E-SCENE-DTYPE, E-SCENE-GRID, E-SCENE-ALIGN.
    """

    def __init__(self, names: Sequence[str], images: Sequence[Source], choice: Choice) -> None:
        _check_distinct(names)
        _check_dtypes(images)
        grid = images[0] if choice.align is None else _finest(images)
        self.images = tuple(_on_grid_of(grid, image, align=bool(choice.align)) for image in images)
        self._bands = [(image, band) for image in self.images for band in range(image.bands)]
        nodata = [image.nodata for image in self.images]
        self._one_nodata = all(_same_number(nodata[0], each) for each in nodata)
        levels = {image.levels for image in self.images}
        aligned = sum(isinstance(image, AlignedSource) for image in self.images)
        notes = [note for image in self.images for note in image.notes]
        if aligned:
            notes.append(f"{aligned} of its files are aligned to the finest grid, nearest")
        super().__init__(
            uri=f"{joined(names)}#{choice}" if str(choice) else joined(names),
            reader=", ".join(dict.fromkeys(image.reader for image in self.images)),
            dtype=grid.dtype,
            band_names=_band_names(names, self.images),
            levels=grid.levels if len(levels) == 1 else grid.levels[:1],
            georef=grid.georef,
            nodata=nodata[0] if self._one_nodata else None,
            notes=(f"put together from {len(names)} files", *dict.fromkeys(notes)),
            segment_bytes=max(image.segment_bytes for image in self.images),
            recorded=_one({image.recorded for image in self.images}),
        )

    def _read(self, window: Window, level: int, bands: tuple[int, ...]) -> NDArray[Any]:
        pixels = np.empty((*window.size, len(bands)), self.dtype)
        for image in self.images:
            wanted = [(k, self._bands[band][1]) for k, band in enumerate(bands)
                      if self._bands[band][0] is image]  # fmt: skip
            if wanted:
                places, own = zip(*wanted, strict=True)
                pixels[..., list(places)] = image.read(window, level, own)
        return pixels

    def _mask(self, window: Window, level: int) -> NDArray[np.bool_] | None:
        masks = [image.mask(window, level) for image in self.images]
        stated = [mask for mask in masks if mask is not None]
        if not self._one_nodata:
            stated.append(~self._missing(window, level))
        return np.logical_and.reduce(stated) if stated else None

    def _missing(self, window: Window, level: int) -> NDArray[np.bool_]:
        """Where every file holds its own nodata value; nowhere if one of them states none."""
        missing = np.full(window.size, all(image.nodata is not None for image in self.images))
        for image in self.images:
            if missing.any():
                missing &= (image.read(window, level) == image.nodata).all(axis=2)
        return missing

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for image in self.images for file in image.files)

    def identity(self) -> dict[str, Any]:
        each = {image.uri: image.identity() for image in self.images}
        # A dict is the same in any order, and the bands are not.
        return {"scene": self.uri, **each}

    def close(self) -> None:
        for image in self.images:
            image.close()


def _one(recorded: set[str | None]) -> str | None:
    """The time that all files share."""
    return next(iter(recorded)) if len(recorded) == 1 else None


def _check_distinct(names: Sequence[str]) -> None:
    seen = set()
    for name in names:
        file = name if is_address(name) else os.path.realpath(name)
        if file in seen:
            raise UsageError("E-SCENE-TWICE", path=name)
        seen.add(file)


def _check_dtypes(images: Sequence[Source]) -> None:
    first = images[0]
    for image in images:
        if image.dtype != first.dtype:
            raise InputError(
                "E-SCENE-DTYPE",
                path=image.uri,
                dtype=image.dtype,
                first=first.uri,
                wanted=first.dtype,
            )


def _finest(images: Sequence[Source]) -> Source:
    """The first with pixels of the least area; that of equal ones may differ by rounding."""
    areas = [abs(float(image.georef.affine.determinant)) for image in images]
    return next(
        image for image, area in zip(images, areas, strict=True) if area <= min(areas) * (1 + 1e-6)
    )


def _on_grid_of(grid: Source, image: Source, *, align: bool) -> Source:
    """`image` if it has the grid of `grid`; else, with `align`, seen on that grid."""
    here, there = image.georef, grid.georef
    if image.shape == grid.shape and here.is_map == there.is_map:
        if here.is_map and same_place(here, there, grid.shape):
            return image
        if not here.is_map and here.pixel_size == there.pixel_size:
            return image
    if align:
        return AlignedSource(image, grid)
    raise InputError(
        "E-SCENE-GRID",
        path=image.uri,
        found=_described(image),
        first=grid.uri,
        wanted=_described(grid),
    )


def _described(image: Source) -> str:
    georef = image.georef
    size = f"{image.shape.cols} x {image.shape.rows} px"
    if georef.transform is not None:
        numbers = ", ".join(f"{number:.12g}" for number in georef.transform)
        name = georef.crs.split('"')[1] if georef.crs and '"' in georef.crs else "no CRS"
        return f"{size} at ({numbers}) in {name}"
    pixel = georef.pixel_size
    return f"{size} of {pixel.cols:g} x {pixel.rows:g} {pixel.unit}" if pixel else size


def _band_names(names: Sequence[str], images: Sequence[Source]) -> tuple[str, ...]:
    found: list[str] = []
    for word, image in zip(distinct_words(names), images, strict=True):
        if image.bands == 1:
            found.append(word)
        else:
            found += [name or f"{word} {k}" for k, name in enumerate(image.band_names, 1)]
    return tuple(found)


def _same_number(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or (math.isnan(one) and math.isnan(other))
