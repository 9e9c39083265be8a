"""NAIP pictures into parts of 10 m and weak masks of water for `tilseg train`.

    python prepare.py PREPARED NAIP.tif [NAIP.tif ...]

The pictures are of one place: four bands (red, green, blue, near infrared) of 5 m on a map, their
grids at most one row apart. Each is averaged to 10 m and cut into 3 x 4 parts. PREPARED gets
images/YEAR/PART.tif and masks/YEAR/PART.tif: parts of all years have equal names, so that a place
held out of one year is held out of all.

Nobody drew the masks, an index did: 0 background, 1 water, 255 where it can't tell.
"""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

BANDS = ("red", "green", "blue", "near infrared")
BACKGROUND, WATER, UNKNOWN = 0, 1, 255
PARTS = (3, 4)
AVERAGED = 2  # pixels of 5 m in one of 10 m


def prepare(target: Path, pictures: list[Path]) -> int:
    """Average, label and cut every picture; returns the number of parts."""
    count = 0
    for picture in pictures:
        with rasterio.open(picture) as file:
            pixels, grid = averaged(np.moveaxis(file.read(), 0, -1)), file.transform
            crs = file.crs
        year = re.search(r"_(\d{4})\d{4}$", picture.stem)
        grid = grid * Affine.scale(AVERAGED)
        labels = weak_labels(pixels)
        for number, (rows, cols) in enumerate(parts(labels.shape)):
            name = f"{year[1] if year else picture.stem}/{number}.tif"
            place = grid * Affine.translation(cols.start, rows.start)
            _write(target / "images" / name, pixels[rows, cols], BANDS, crs, place)
            _write(target / "masks" / name, labels[rows, cols, None], ("class",), crs, place)
            count += 1
    return count


def averaged(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means of 2 x 2 pixels of (rows, cols, bands); a last odd row or column is left out."""
    rows, cols = (n // AVERAGED for n in pixels.shape[:2])
    even = pixels[: rows * AVERAGED, : cols * AVERAGED].astype(np.float64)
    means = even.reshape(rows, AVERAGED, cols, AVERAGED, -1).mean(axis=(1, 3))
    return np.rint(means).astype(np.uint8)


def weak_labels(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Water where near infrared is dark (Otsu 1979, whole picture) and NDWI above 0.

    NDWI = (green - near infrared) / (green + near infrared), McFeeters 1996. What is dark
    without it - wet vegetation, mud, burnt ground, shadow - is unknown.
    """
    _, green, _, infrared = np.moveaxis(pixels.astype(np.float64), -1, 0)
    dark = infrared <= threshold_otsu(infrared)
    return np.where(dark, np.where(green > infrared, WATER, UNKNOWN), BACKGROUND).astype(np.uint8)


def parts(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """3 x 4 windows that cover `shape` once, in raster order."""
    cuts = [np.linspace(0, n, k + 1).astype(int) for n, k in zip(shape, PARTS, strict=True)]
    rows, cols = ([slice(*each) for each in pairwise(c)] for c in cuts)
    return [(row, col) for row in rows for col in cols]


def _write(path: Path, pixels: NDArray[Any], bands: tuple[str, ...], crs: Any, grid: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, cols, count = pixels.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=rows,
        width=cols,
        count=count,
        dtype=pixels.dtype,
        crs=crs,
        transform=grid,
        # Or GDAL takes the first three of four bytes for RGB and the last for alpha.
        photometric="minisblack",
        compress="deflate",
    ) as file:
        file.write(np.moveaxis(pixels, -1, 0))
        file.descriptions = bands


if __name__ == "__main__":
    print(f"{prepare(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])} parts prepared")
