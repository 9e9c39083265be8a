"""Regions of a whole mask by scikit-image, and by tilseg in blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label, regionprops_table

from tilseg.regions import BlockGrid, BlockTable, RegionTable, label_blocks, measure_block, merge
from tilseg.window import Size

EQUAL = ("label", "area", "bbox", "centroid", "euler_number", "perimeter_crofton", "extent")
HULL = ("area_convex", "solidity", "feret_diameter_max")
CLOSE = ("perimeter", "equivalent_diameter_area")
ELLIPSE = ("axis_major_length", "axis_minor_length", "eccentricity", "orientation")
BAND_EQUAL = ("intensity_mean", "intensity_min", "intensity_max")


def block_tables(
    mask: NDArray[Any], block: tuple[int, int], image: NDArray[Any] | None = None, **rules: Any
) -> tuple[BlockGrid, list[BlockTable]]:
    """The table of every block, each once written to bytes and read again."""
    grid = BlockGrid(Size(*mask.shape), Size(*block))
    tables = []
    for window in grid:
        pixels = None if image is None else image[window.slices]
        table = measure_block(mask[window.slices], window, shape=grid.shape, image=pixels, **rules)
        tables.append(BlockTable.from_bytes(table.to_bytes()))
    return grid, tables


def tiled(
    mask: NDArray[Any], block: tuple[int, int], image: NDArray[Any] | None = None, **rules: Any
) -> RegionTable:
    grid, tables = block_tables(mask, block, image, **rules)
    return merge(tables, grid)


def label_raster(mask: NDArray[Any], regions: RegionTable) -> NDArray[np.uint32]:
    labels = np.full(mask.shape, 2**32 - 1, dtype=np.uint32)
    for window, values in label_blocks(lambda window: mask[window.slices], regions):
        labels[window.slices] = values
    return labels


def whole_labels(
    mask: NDArray[Any],
    nodata: int | None = 255,
    background: int | None = 0,
    connectivity: int = 2,
) -> NDArray[Any]:
    """scikit-image's labels of the whole mask."""
    classes = mask.astype(np.int64) + 1
    classes[(mask == nodata) | (mask == background)] = 0
    return label(classes, background=0, connectivity=connectivity)


def assert_like_skimage(
    regions: RegionTable,
    mask: NDArray[Any],
    image: NDArray[Any] | None = None,
    *,
    with_hull: bool = False,
    **rules: Any,
) -> None:
    """Every label and property, against scikit-image on the whole mask."""
    labels = whole_labels(mask, **rules)
    np.testing.assert_array_equal(label_raster(mask, regions), labels)
    bands = () if image is None else (*BAND_EQUAL, "intensity_std")
    names = (*EQUAL, *CLOSE, *ELLIPSE, *bands, *(HULL if with_hull else ()))
    expected = regionprops_table(labels, image, properties=names)
    assert len(regions) == len(expected["label"])
    if len(regions) == 0:
        return
    for name, values in expected.items():
        ours = regions.columns[name]
        if name.split("-")[0] in (*EQUAL, *BAND_EQUAL, *HULL):
            np.testing.assert_array_equal(ours, values, err_msg=name)
        elif name in CLOSE:
            np.testing.assert_allclose(ours, values, rtol=1e-13, err_msg=name)
        elif name.startswith("intensity_std"):
            np.testing.assert_allclose(ours, values, rtol=1e-9, atol=1e-9, err_msg=name)
    _assert_ellipse(regions.columns, expected)
    _assert_rest(regions, mask, labels)


def _assert_ellipse(ours: dict[str, Any], expected: dict[str, Any]) -> None:
    # Compared as variances: the root of a rounding error of nothing is not nothing.
    scale = expected["axis_major_length"] ** 2 + 1e-300
    for name in ("axis_major_length", "axis_minor_length"):
        assert (np.abs(ours[name] ** 2 - expected[name] ** 2) <= 1e-12 * scale).all(), name
    eccentricity = expected["eccentricity"]
    assert (np.abs(ours["eccentricity"] ** 2 - eccentricity**2) <= 1e-12).all()
    # An orientation is an axis, and a circle has none.
    turned = np.abs(np.sin(ours["orientation"] - expected["orientation"]))
    assert (turned * eccentricity**2 <= 1e-12).all()


def _assert_rest(regions: RegionTable, mask: NDArray[Any], labels: NDArray[Any]) -> None:
    first = np.unique(labels, return_index=True)[1][-len(regions) :]
    np.testing.assert_array_equal(regions.columns["class"], mask.ravel()[first])
    frame = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    at_edge = np.isin(regions.columns["label"], frame)
    np.testing.assert_array_equal(regions.columns["touches_edge"], at_edge)
