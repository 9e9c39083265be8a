"""What is not exact in a run, measured on the image at hand: inexact tiling, and precision."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tilseg.calibration import windows
from tilseg.card import Card
from tilseg.errors import InputError
from tilseg.model import Precision, load_model
from tilseg.plan import Plan, Tile, TileGrid
from tilseg.reading import read_filled
from tilseg.source import Source
from tilseg.where.chosen import Chosen
from tilseg.window import Size, Window

_log = logging.getLogger("tilseg")

# Tiles a side of the piece that is predicted in two ways.
_TILES = 2
# What is predicted in both precisions: pieces of the image of so many pixels a side, spread evenly
# over it, of which the network computes a small share of the pixels of the run, but for a small image.
_PIECE = 256
_SHARE = 1 / 200
_MOST_PIECES = 64
_PIECES_LOOKED_AT = 256
# Of labels: so many others, and something of the image does not suit the precision.
_MUCH = 0.05


def inexactness(plan: Plan, source: Source, card: Card) -> dict[str, Any] | None:
    """What a run of `plan` is expected to get other than whole and in float32; None for nothing.

    Returns plain JSON, "tiling" and "precision", either of which may be None: see `_by_tiling`
    and `_by_precision`. source: on the plan's grid.
    """
    tiling = _by_tiling(plan, source) if card.inexact else None
    precision = _by_precision(plan, source) if plan.precision != "fp32" else None
    return {"tiling": tiling, "precision": precision} if tiling or precision else None


def _by_tiling(plan: Plan, source: Source) -> dict[str, Any] | None:
    """Scores and labels of the middle of the image, in the plan's tiles and in half of them.

    "reason" from the card, "tiles" compared, "score" the largest difference of a score, "labels"
    the fraction of pixels whose class differs. Where the middle can't be read, a corner is
    taken; None where no place can, which the run will tell.
    """
    from tilseg.models.probe import measure_inexactness
    from tilseg.models.torch_model import TorchModel

    model = load_model(
        plan.model,
        device=plan.device,
        precision=plan.precision,
        threads=plan.threads,
        tta=plan.tta,
        ranges=plan.ranges,
    )
    assert isinstance(model, TorchModel)
    tile = min(plan.grid.tile)
    half = max(model.field.step_below(tile // 2), model.field.stride)
    for window in _places(plan.grid.shape, _TILES * tile):
        try:
            pixels, _ = read_filled(plan, source, window)
        except InputError:
            continue
        found = measure_inexactness(model, pixels, plan.statistics, (tile, half))
        return {"reason": model.card.inexact, "tiles": [tile, half], **asdict(found)}
    return None


def _by_precision(plan: Plan, source: Source) -> dict[str, Any] | None:
    """Labels of pieces of the image in the run's precision and in float32.

    "precision" of the run, "pieces" and "pixels" compared, "labels" the fraction of pixels whose
    class differs. None where no piece could be read; the run will say why.
    """
    # On as many threads as there are: nothing else is to be done yet.
    precisions: tuple[Precision, ...] = (plan.precision, "fp32")
    ours, exact = (
        load_model(
            plan.model,
            device=plan.device,
            precision=precision,
            tta=plan.tta,
            ranges=plan.ranges,
        )
        for precision in precisions
    )
    count = pixels = different = 0
    for piece in pieces(plan):
        try:
            image, valid = read_filled(plan, source, piece.read)
        except InputError:
            continue
        one, other = (
            model.predict(image[None], plan.statistics).labels[0] for model in (ours, exact)
        )
        kept = np.s_[: piece.write.rows, : piece.write.cols]
        data = np.ones(piece.write.size, np.bool_)
        if valid is not None:
            data = valid[piece.write.relative_to(piece.read).slices]
        different += int(np.count_nonzero((one[kept] != other[kept]) & data))
        pixels += int(np.count_nonzero(data))
        count += 1
    if not pixels:
        return None
    share = different / pixels
    told, more = (_log.warning, "; use --precision fp32 here") if share > _MUCH else (_log.info, "")
    told("%s gives %.2g %% of pixels another class than fp32%s", plan.precision, 100 * share, more)
    return {"precision": plan.precision, "pieces": count, "pixels": pixels, "labels": share}


def pieces(plan: Plan) -> list[Tile]:
    """Tiles smaller than those of the run, some of those that it computes, spread evenly."""
    field, tile = plan.grid.field, plan.grid.tile
    rows, cols = (min(step, field.step_covering(_PIECE)) for step in tile)
    grid = replace(plan.grid, tile=Size(rows, cols), tiles_per_block=Size(1, 1))
    chosen = Chosen(plan.selection, grid.shape)
    looked_at = np.unique(np.linspace(0, len(grid) - 1, _PIECES_LOOKED_AT).astype(int))
    tiles = [grid.block_at(int(index)).tiles[0] for index in looked_at]
    computed = [each for each in tiles if chosen.reason_to_skip(each.write) is None]
    if not computed:
        # So little is segmented that all of these lie beside it.
        there = dict.fromkeys(tile for window in windows(plan) for tile in _tiles_of(grid, window))
        computed = [each for each in there if chosen.reason_to_skip(each.write) is None]
    run = plan.grid.tile_counts.area * plan.grid.input.area * len(computed) / len(tiles)
    count = min(max(1, int(_SHARE * run / grid.input.area)), _MOST_PIECES, len(computed))
    # Each from the middle of its part of the image.
    return [computed[(2 * k + 1) * len(computed) // (2 * count)] for k in range(count)]


def _tiles_of(grid: TileGrid, window: Window) -> Iterator[Tile]:
    """The tiles, each a block, that own pixels of a window."""
    for row in range(window.row // grid.tile.rows, -(-window.row_stop // grid.tile.rows)):
        for col in range(window.col // grid.tile.cols, -(-window.col_stop // grid.tile.cols)):
            yield grid.block_at(row * grid.block_counts.cols + col).tiles[0]


def _places(shape: Size, side: int) -> Iterator[Window]:
    """Windows of `side` pixels a side at most: in the middle of the image, then in its corners."""
    rows, cols = (min(side, pixels) for pixels in shape)
    for down, right in ((1, 1), (0, 0), (0, 2), (2, 0), (2, 2)):
        row, col = (shape.rows - rows) * down // 2, (shape.cols - cols) * right // 2
        yield Window(row, col, rows, cols)
