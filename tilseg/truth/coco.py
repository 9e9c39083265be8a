"""The polygons of one image of a COCO file (cocodataset.org, "Data format")."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from tilseg.window import Size


class Drawing(NamedTuple):
    """What is drawn on one image: polygons in pixels, columns before rows, in the order in
    which they are painted, the category id of each, and the names of all categories."""

    polygons: list[Any]
    categories: list[int]
    shape: Size
    names: dict[int, str]


def drawing(content: dict[str, Any], image: str) -> Drawing:
    """The annotations of the only image of the file, or of the one named as `image` is.

    Crowds are painted first: they lie below what is drawn one by one.
    Raises ValueError where there is no such image, or what reading damaged data raises.
    """
    chosen = _image(content["images"], image)
    names = {int(one["id"]): str(one["name"]) for one in content["categories"]}
    shape = Size(int(chosen["height"]), int(chosen["width"]))
    polygons: list[Any] = []
    categories: list[int] = []
    marks = [mark for mark in content["annotations"] if mark["image_id"] == chosen["id"]]
    for mark in sorted(marks, key=lambda mark: not mark.get("iscrowd")):
        # Parts stay apart: where they overlap in one multipolygon, they would cut holes.
        parts = list(_parts(mark["segmentation"], shape))
        polygons += parts
        categories += [int(mark["category_id"])] * len(parts)
    return Drawing(polygons, categories, shape, names)


def _image(images: list[dict[str, Any]], image: str) -> dict[str, Any]:
    if len(images) == 1:
        return images[0]
    stem = Path(image).name.split(".")[0]
    named = [one for one in images if Path(one["file_name"]).name.split(".")[0] == stem]
    if len(named) != 1:
        raise ValueError(f"of {len(images)} images, {len(named)} are named {stem!r}")
    return named[0]


def _parts(segmentation: Any, shape: Size) -> Iterator[Any]:
    if isinstance(segmentation, list):
        for ring in segmentation:
            yield shapely.Polygon(np.reshape(ring, (-1, 2)))
        return
    if tuple(segmentation["size"]) != tuple(shape):
        raise ValueError(f"runs for {segmentation['size']} on an image of {list(shape)}")
    yield from _outlines(_painted(segmentation["counts"], shape))


def _painted(counts: str | list[int], shape: Size) -> NDArray[np.uint8]:
    """The pixels of runs, which go down the columns and begin with 0: (rows, cols), 0 or 1."""
    lengths = _lengths(counts) if isinstance(counts, str) else counts
    values = np.arange(len(lengths), dtype=np.uint8) % 2
    return np.repeat(values, lengths).reshape(shape.cols, shape.rows).T


def _lengths(text: str) -> list[int]:
    """The runs in pycocotools' compressed form: from the fourth on as what they are longer than
    the last but one, in groups of 5 bits, the lowest first, of which 0x20 says that one follows.
    """
    lengths: list[int] = []
    number = bits = 0
    for character in text:
        group = ord(character) - 48
        number |= (group & 0x1F) << bits
        bits += 5
        if group & 0x20:
            continue
        if group & 0x10:
            number -= 1 << bits
        lengths.append(number + (lengths[-2] if len(lengths) > 2 else 0))
        number = bits = 0
    return lengths


def _outlines(pixels: NDArray[np.uint8]) -> Iterator[Any]:
    """Polygons along the edges of the pixels that are 1."""
    import tilseg.gdal_env  # noqa: F401
    import rasterio.features  # isort: skip

    for outline, _ in rasterio.features.shapes(np.ascontiguousarray(pixels), mask=pixels > 0):
        yield shapely.geometry.shape(outline)
