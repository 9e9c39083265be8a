"""The same objects at other pixel sizes: areas and places of matched regions.

    python benchmarks/pixel_size.py SLIDE OUTPUT [--sizes 0.25 0.5 1.0] [--view ROW COL]

Segments SLIDE at its own pixels and at each size in um, in two ways: by a threshold of its smoothed
darkness, which knows nothing of sizes, so that all that differs is resampling; and with the
bundled network, which sees other images. Matches regions whose intersection is more than half of
their union in level-0 pixels, and compares areas in um2 and centroids. `expected` is what resampling alone may do to an area A with the outline P:

    blur     the kernel's variance s2 = w^2 / 6 moves an outline of radius r inwards by s2 / 2r,
             which takes s2 / r^2 of a disc (w: half the kernel's width in um)
    count    an outline crosses about P / p pixels of side p, and each is in or out at a place
             that is uniform in it: a standard deviation of sqrt(P p^3 / 12)

Draws the outlines at all sizes over level-0 pixels around ROW, COL to OUTPUT/outlines.png, and
prints a table, then one line of JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from common import show
from numpy.typing import NDArray

import tilseg
from tilseg.georef import Factors
from tilseg.plan import Plan, RegionOptions
from tilseg.resample import nearest
from tilseg.sinks.shards import BlockArray
from tilseg.source import Source
from tilseg.sources.resampled import on_grid
from tilseg.window import Size, Window

SMOOTH = 3.0  # pixels
VIEW = Size(330, 440)
ZOOM = 3
COLORS = ("#000000", "#0072b2", "#d55e00", "#009e73")

Columns = dict[str, NDArray[Any]]


def segment(source: Source, size: str, folder: Path) -> Plan:
    model = tilseg.load_model("nuclei", device="cpu")
    regions = RegionOptions(labels=True, polygons=("geojson",))
    plan = tilseg.make_plan(source, model, resolution=size, memory="3GB", regions=regions)
    tilseg.run(plan, folder)
    return plan


def table(folder: Path) -> Columns:
    found = pyarrow.parquet.read_table(folder / "regions.parquet")
    return {name: found[name].to_numpy() for name in found.column_names}


def labels_of(folder: Path) -> NDArray[Any]:
    store = BlockArray.open(folder / "labels.zarr" / "0")
    return store.read(Window.whole(store.shape))


def on_image(labels: NDArray[Any], shape: Size, factors: Factors | None) -> NDArray[Any]:
    """Region numbers at every pixel of level 0: that of the pixel its centre lies in."""
    if factors is None:
        return labels
    index = [
        nearest(0, side, there, factor)
        for side, there, factor in zip(shape, labels.shape, factors, strict=True)
    ]
    return labels[np.ix_(*index)]


def darkness(source: Source) -> NDArray[np.float32]:
    """How dark the slide is, smoothed so that outlines are: (rows, cols)."""
    from scipy import ndimage

    pixels = source.read(Window.whole(source.shape)).mean(axis=2, dtype=np.float32)
    smooth: NDArray[np.float32] = ndimage.gaussian_filter(255 - pixels, SMOOTH)
    return smooth


def threshold(image: Source, factors: Factors | None, limit: float) -> tuple[Columns, NDArray[Any]]:
    """Regions above a limit, on the grid of these factors, and their numbers there."""
    from skimage.measure import label

    grid = on_grid(image, factors)
    mask = (grid.read(Window.whole(grid.shape))[..., 0] > limit).astype(np.uint8)
    found, pixel = tilseg.measure(mask).columns, grid.georef.pixel_size
    assert pixel is not None
    side = pixel.rows
    world = {
        "area_um2": found["area"] * side**2,
        "perimeter_um": found["perimeter"] * side,
        "centroid_x": (found["centroid-1"] + 0.5) * side,
        "centroid_y": (found["centroid-0"] + 0.5) * side,
    }
    return found | world, label(mask)


def matched(own: NDArray[Any], other: NDArray[Any]) -> NDArray[np.int64]:
    """(n, 2) rows of both tables whose regions overlap by more than half of their union."""
    both = (own > 0) & (other > 0)
    pairs, common = np.unique(np.stack([own[both], other[both]]), axis=1, return_counts=True)
    one, two = np.bincount(own.ravel()), np.bincount(other.ravel())
    union = one[pairs[0]] + two[pairs[1]] - common
    return pairs[:, common > union / 2].T.astype(np.int64) - 1


def compare(
    how: str, own: Columns, other: Columns, pairs: NDArray[np.int64], own_size: float, size: float
) -> dict[str, Any]:
    whole = ~own["touches_edge"][pairs[:, 0]] & (own["area_um2"][pairs[:, 0]] > 10)
    first, second = pairs[whole].T
    area, change = own["area_um2"][first], other["area_um2"][second] / own["area_um2"][first] - 1
    radius = np.sqrt(area / np.pi)
    outline = own["perimeter_um"][first]
    blur = max(size, own_size) ** 2 / 6
    count = np.sqrt(outline * (size**3 + own_size**3) / 12) / area
    down, across = (
        (other[f"centroid_{axis}"][second] - own[f"centroid_{axis}"][first]) / own_size
        for axis in "yx"
    )
    return {
        "by": how,
        "um": size,
        "matched": len(first),
        "of": int((~own["touches_edge"] & (own["area_um2"] > 10)).sum()),
        "median area change": float(np.median(change)),
        "expected blur": float(np.median(-blur / radius**2)),
        "area spread": float(1.4826 * np.median(np.abs(change - np.median(change)))),
        "expected count": float(np.median(count)),
        "total area change": float(other["area_um2"][second].sum() / area.sum() - 1),
        "down px": float(np.median(down)),
        "across px": float(np.median(across)),
        "distance px": float(np.median(np.hypot(down, across))),
    }


def draw(source: Source, folders: list[Path], corner: tuple[int, int], path: Path) -> None:
    """Outlines as in regions.geojson, in pixels of level 0, over these pixels."""
    from PIL import Image, ImageDraw

    window = Window(*corner, *VIEW).intersection(Window.whole(source.shape))
    picture = Image.fromarray(source.read(window)).resize(
        (window.cols * ZOOM, window.rows * ZOOM), Image.Resampling.NEAREST
    )
    pen = ImageDraw.Draw(picture)
    for folder, color in zip(folders, COLORS, strict=False):
        for feature in json.loads((folder / "regions.geojson").read_bytes())["features"]:
            shape = feature["geometry"]
            polygons = [shape["coordinates"]]
            for ring in (
                ring
                for polygon in (polygons if shape["type"] == "Polygon" else polygons[0])
                for ring in polygon
            ):
                places = (np.array(ring) - (window.col, window.row)) * ZOOM
                pen.line([tuple(place) for place in places], fill=color, width=1)
    picture.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("slide", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.25, 0.5, 1.0])
    parser.add_argument("--view", type=int, nargs=2, default=(900, 900), metavar=("ROW", "COL"))
    options = parser.parse_args()
    source = tilseg.open_source(options.slide)
    pixel = source.georef.pixel_size
    assert pixel is not None
    smooth = tilseg.open_source(darkness(source), pixel_size=pixel.rows)
    limit = float(np.percentile(smooth.read(Window.whole(smooth.shape)), 85))
    own, labels = threshold(smooth, None, limit)
    rows = []
    for size in options.sizes:
        factors = Factors(size / pixel.rows, size / pixel.cols)
        columns, other = threshold(smooth, factors, limit)
        pairs = matched(labels, on_image(other, source.shape, factors))
        rows.append(compare("threshold", own, columns, pairs, pixel.rows, size))
    options.output.mkdir(parents=True, exist_ok=True)
    folders = [options.output / f"{size}.tilseg" for size in ("native", *options.sizes)]
    segment(source, "native", folders[0])
    own, labels = table(folders[0]), labels_of(folders[0])
    for size, folder in zip(options.sizes, folders[1:], strict=True):
        plan = segment(source, f"{size}um", folder)
        pairs = matched(labels, on_image(labels_of(folder), source.shape, plan.factors))
        rows.append(compare("network", own, table(folder), pairs, pixel.rows, size))
    shown = [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    show("the same regions at other pixel sizes", list(rows[0]), shown)
    draw(source, folders, options.view, options.output / "outlines.png")


if __name__ == "__main__":
    main()
