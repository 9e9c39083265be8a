"""Draw the pictures of the documentation: `python docs/make_pictures.py`.

The drawings (SVG) are made from the arithmetic of the package, so that they can't say anything
else; `tests/test_docs.py` compares them. The picture of the slide (PNG) is a real run of the
bundled model on sample_data/slide.tif.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.segmentation import find_boundaries

import tilseg
from tilseg.plan import TileGrid
from tilseg.receptive_field import ReceptiveField, compose
from tilseg.resample import taps
from tilseg.sinks.shards import BlockArray
from tilseg.training.config import Config, Data, TrainingClass
from tilseg.training.settings import AUGMENTATIONS
from tilseg.training.train import preview
from tilseg.window import Size, Window, mirror_index

DOCS = Path(__file__).parent
IMAGES = DOCS / "images"
SLIDE = DOCS.parent / "sample_data" / "slide.tif"

# Okabe and Ito's colours, distinct for colour-blind eyes.
BLUE, ORANGE, GREEN, GREY, INK = "#0072b2", "#d55e00", "#009e73", "#999999", "#222222"

# What the slide picture shows: glands and stroma, and no axis of the mirror the slide is made with.
VIEW = Window(690, 1200, 360, 480)


def paper_field() -> ReceptiveField:
    """The U-Net of 2015: four poolings, two 3x3 convolutions a block, 2x2 up-convolutions."""
    return compose([4] * 4, 4, [4] * 4, [0] * 4)


def drawings() -> dict[Path, str]:
    """Every drawing and its SVG."""
    return {
        IMAGES / "windows.svg": windows_svg(),
        IMAGES / "lattice.svg": lattice_svg(),
        IMAGES / "mirror.svg": mirror_svg(),
        IMAGES / "grid.svg": grid_svg(),
    }


def windows_svg() -> str:
    """Read and write windows of a corner tile and an inner one, to scale."""
    field = paper_field()
    grid = TileGrid(Size(1000, 1100), field, Size(384, 384), Size(1, 1))
    scale, left, top = 0.42, 56, 52

    def box(window: Window, **style: object) -> str:
        return _rect(
            left + scale * window.col,
            top + scale * window.row,
            scale * window.cols,
            scale * window.rows,
            **style,
        )

    image = Window.whole(grid.shape)
    parts = [box(image, fill="#f4f1ea", stroke=INK)]
    for block in grid:
        parts.append(box(block.write, fill="none", stroke=GREY, dash="3 3"))
    overhang = Window(768, 768, *grid.tile)
    parts.append(box(overhang, fill=GREEN, opacity=0.3, stroke=GREEN, dash="6 3"))
    for index, color in ((0, ORANGE), (4, BLUE)):
        (tile,) = grid.block_at(index).tiles
        parts.append(box(tile.read, fill=color, opacity=0.14, stroke=color, dash="6 3"))
        parts.append(box(tile.write, fill=color, opacity=0.45, stroke=color))
    right = left + scale * overhang.col_stop + 30
    notes = [
        (BLUE, "write window: 384 x 384 px,", "what this tile owns"),
        (BLUE, f"read window: {grid.input.rows} x {grid.input.cols} px,", "what the network sees"),
        (INK, f"halo: {field.halo} px on each side,", "seen by this tile, owned by others"),
        (ORANGE, "outside the image:", "the tile sees the image mirrored"),
        (GREEN, "the last tile overhangs the image:", "what is outside is dropped"),
    ]
    for number, (color, first, second) in enumerate(notes):
        parts.append(_text(right, top + 30 + 62 * number, first, color, bold=True))
        parts.append(_text(right, top + 48 + 62 * number, second, color))
    return _svg(860, 560, parts)


def lattice_svg() -> str:
    """Where the pooling cells of the second tile fall at steps 384 and 388.

    Counted from its first output pixel: the losses of the convolutions before a pooling move
    all cells alike.
    """
    field = paper_field()
    first, last = 320, 448
    scale, left = 5.6, 130

    def x(pixel: float) -> float:
        return left + scale * (pixel - first)

    parts = [_text(left - 26, 50, "image pixel", INK, anchor="end")]
    for pixel in range(first, last + 1, field.stride):
        parts.append(_line(x(pixel), 56, x(pixel), 292, "#dddddd"))
        parts.append(_text(x(pixel), 50, str(pixel), INK, anchor="middle"))
    rows = [
        ("whole image", 0, "#666666", 70),
        ("step 384", 384, GREEN, 150),
        ("step 388", 388, ORANGE, 230),
    ]
    for name, step, color, y in rows:
        for pixel in range(first + step % field.stride, last, field.stride):
            width = scale * (min(pixel + field.stride, last) - pixel)
            parts.append(_rect(x(pixel), y, width, 44, fill=color, opacity=0.35, stroke=color))
        parts.append(_text(left - 12, y + 27, name, color, anchor="end", bold=True))
        if step:
            parts.append(_line(x(step), y - 8, x(step), y + 52, INK, 2))
            words = f"{step} = {step // field.stride} x {field.stride}"
            rest = f" + {step % field.stride}" if step % field.stride else ""
            parts.append(_text(x(step) + 6, y + 64, f"second tile begins here: {words}{rest}", INK))
    return _svg(900, 320, parts)


def mirror_svg() -> str:
    """The mirror at the left edge of a row of seven pixels, from the index map itself."""
    size, cell, left = 7, 44, 40
    indices = mirror_index(-8, size + 4, size)
    parts = []
    for place, index in enumerate(indices.tolist()):
        inside = 8 <= place < 8 + size
        color = BLUE if inside else GREY
        parts.append(
            _rect(left + cell * place, 44, cell, cell, fill=color, opacity=0.3, stroke=color)
        )
        middle = left + cell * (place + 0.5)
        parts.append(_text(middle, 71, str(index), INK, anchor="middle", bold=inside))
    for edge in (8, 8 + size):
        parts.append(_line(left + cell * edge, 34, left + cell * edge, 98, INK, 2))
    parts.append(_text(left, 28, "mirrored", GREY))
    parts.append(_text(left + cell * 8 + 6, 28, "a row of 7 pixels", BLUE, bold=True))
    parts.append(_text(left + cell * 15 + 6, 28, "mirrored", GREY))
    return _svg(left * 2 + cell * len(indices), 116, parts)


def grid_svg() -> str:
    """A row of pixels on a grid of pixels 1.6 times as large, and tile by tile beside it."""
    size, factor, cell, left, drawn = 18, 1.6, 42, 120, 5

    def x(place: float) -> float:
        return left + cell * place

    def row(edges: Iterable[float], y: float, color: str) -> None:
        edges = list(edges)
        for number, (start, stop) in enumerate(pairwise(edges)):
            parts.append(
                _rect(x(start), y, x(stop) - x(start), 34, fill=color, opacity=0.25, stroke=color)
            )
            parts.append(_text(x((start + stop) / 2), y + 22, str(number), INK, anchor="middle"))

    parts: list[str] = []
    row(range(size + 1), 40, GREY)
    # What one pixel of the grid is made of: weights as high as they are large.
    found, centre = taps(drawn, drawn + 1, size, factor), (drawn + 0.5) * factor
    peak = 140.0
    for index, weight in zip(found.index[0].tolist(), found.weight[0].tolist(), strict=True):
        if weight:
            height = 110 * weight
            peak = 140 - height / (1 - abs(index + 0.5 - centre) / factor)
            parts.append(
                _rect(x(index + 0.4), 140 - height, 0.2 * cell, height, fill=BLUE, stroke=BLUE)
            )
    parts.append(_line(x(centre - factor), 140, x(centre), peak, BLUE))
    parts.append(_line(x(centre), peak, x(centre + factor), 140, BLUE))
    parts.append(_line(x(centre - factor), 140, x(centre + factor), 140, BLUE))
    row([factor * number for number in range(12)], 150, GREEN)
    per_tile = 4
    starts = [round(factor * per_tile * tile) for tile in range(3)]
    for start, stop in pairwise(starts):
        wide = (stop - start) / per_tile
        row([start + wide * number for number in range(per_tile + 1)], 230, ORANGE)
        parts.append(_line(x(start), 220, x(start), 276, INK, 2))
    second = factor * per_tile
    parts.append(_line(x(second), 144, x(second), 276, GREEN, 2))
    for words, y, color in (("image", 62, "#666666"), ("one grid", 172, GREEN)):
        parts.append(_text(left - 12, y, words, color, anchor="end", bold=True))
    parts.append(_text(left - 12, 252, "tile by tile", ORANGE, anchor="end", bold=True))
    wide = (starts[2] - starts[1]) / per_tile
    parts.append(_text(x(centre + factor) + 8, 118, f"what pixel {drawn} is the mean of", BLUE))
    words = f"the second tile of {per_tile} begins at {starts[1]}, not {second:g}; its pixels are"
    parts.append(_text(x(starts[1]), 298, f"{words} {wide:g} wide, not {factor}", INK))
    return _svg(x(size) + 20, 316, parts)


def segmented_slide(folder: Path) -> Path:
    """The result of the bundled model on the sample slide."""
    source = tilseg.open_source(SLIDE)
    regions = tilseg.RegionOptions(labels=True)
    plan = tilseg.make_plan(source, tilseg.load_model("nuclei"), regions=regions)
    return tilseg.run(plan, folder / "slide.tilseg").output


def slide_png(result: Path) -> Image.Image:
    """A window of the sample slide, and the same with the nuclei's outlines and tint."""
    nuclei = BlockArray.open(result / "labels.zarr" / "0").read(VIEW)
    source = tilseg.open_source(SLIDE)
    pixels = source.read(VIEW)
    source.close()
    gap = np.full((VIEW.rows, 8, 3), 255, np.uint8)
    both = np.concatenate([pixels, gap, overlay(pixels, nuclei)], axis=1)
    # A palette keeps the file small; 160 colours do not show on such a stain.
    return Image.fromarray(both).quantize(160, dither=Image.Dither.NONE)


def preview_png() -> Image.Image:
    """Two places of the sample slide, and three augmented patches beside each."""
    names = {"images": "slide.tif", "masks": "slide_truth.tif"}
    config = Config(
        data=Data(**{key: str(DOCS.parent / "sample_data" / name) for key, name in names.items()}),
        classes=(TrainingClass(name="background"), TrainingClass(name="nucleus")),
        augmentation=AUGMENTATIONS["histology"],
    )
    sheet = preview(config, rows=2, changed=3)
    return Image.fromarray(sheet).quantize(160, dither=Image.Dither.NONE)


def overlay(pixels: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """`pixels` (rows, cols, 3) tinted in `objects` (rows, cols), with the edge of each drawn."""
    color = np.array([220, 0, 110], np.float64)
    inside = objects > 0
    edge = inside & find_boundaries(objects, connectivity=1, mode="inner")
    tinted = np.where(inside[..., None], 0.9 * pixels + 0.1 * color, pixels)
    return np.where(edge[..., None], color, tinted).round().astype(np.uint8)


def _rect(
    x: float,
    y: float,
    width: float,
    height: float,
    *,
    fill: str,
    stroke: str,
    opacity: float = 1,
    dash: str = "none",
) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}" '
        f'fill-opacity="{opacity}" stroke="{stroke}" stroke-dasharray="{dash}"/>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: float = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}" '
        f'stroke-width="{width}"/>'
    )


def _text(
    x: float, y: float, words: str, color: str, *, anchor: str = "start", bold: bool = False
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" text-anchor="{anchor}"{weight}>{words}</text>'


def _svg(width: float, height: float, parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        'font-family="sans-serif" font-size="14">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def report_png(page: Path) -> Image.Image:
    """The upper part of a report, as Chromium shows it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        window = browser.new_page(viewport={"width": 960, "height": 1370})
        window.goto(page.absolute().as_uri())
        picture = Image.open(io.BytesIO(window.screenshot())).convert("RGB")
        browser.close()
    return picture.quantize(96, dither=Image.Dither.NONE)


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for path, svg in drawings().items():
        path.write_text(svg)
    preview_png().save(IMAGES / "preview.png", optimize=True)
    with tempfile.TemporaryDirectory() as folder:
        result = segmented_slide(Path(folder))
        slide_png(result).save(IMAGES / "slide.png", optimize=True)
        report_png(result / "report.html").save(IMAGES / "report.png", optimize=True)
