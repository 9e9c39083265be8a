"""What is not exact in a run, measured on the image at hand: inexact tiling, and precision."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

import numpy as np

from tilseg.card import Card
from tilseg.errors import InputError
from tilseg.model import Model, load_model
from tilseg.plan import Plan, Tile
from tilseg.reading import read_filled
from tilseg.source import Source
from tilseg.where.chosen import Chosen
from tilseg.window import Size, Window

_log = logging.getLogger("tilseg")

# Tiles a side of the piece that is predicted in two ways.
_TILES = 2
# Tiles predicted in both precisions, of blocks spread evenly over the image.
_COMPARED = 8
_BLOCKS_LOOKED_AT = 256


def inexactness(plan: Plan, source: Source, card: Card) -> dict[str, Any] | None:
    """What a run of `plan` is expected to get other than whole and in float32; None for nothing.

    Returns plain JSON, "tiling" and "precision", either of which may be None: see `_by_tiling`
    and `_by_precision`. source: on the plan's grid.
    """
    tiling = _by_tiling(plan, source) if card.inexact else None
    precision = _by_precision(plan, source) if plan.precision != "fp32" else None
    return {"tiling": tiling, "precision": precision} if tiling or precision else None


def _by_tiling(plan: Plan, source: Source) -> dict[str, Any]:
    """Scores and labels of the middle of the image, in the plan's tiles and in half of them.

    "reason" from the card, "tiles" compared, "score" the largest difference of a score, "labels"
    the fraction of pixels whose class differs.
    """
    from tilseg.models.network import TorchModel
    from tilseg.models.probe import measure_inexactness

    model = _model(plan)
    assert isinstance(model, TorchModel)
    tile = min(plan.grid.tile)
    half = max(model.field.step_below(tile // 2), model.field.stride)
    pixels, _ = read_filled(plan, source, _middle(plan.grid.shape, _TILES * tile))
    found = measure_inexactness(model, pixels, plan.statistics, (tile, half))
    return {"reason": model.card.inexact, "tiles": [tile, half], **asdict(found)}


def _by_precision(plan: Plan, source: Source) -> dict[str, Any] | None:
    """Labels of tiles of the run in its precision and in float32.

    "precision" of the run, "tiles" and "pixels" compared, "labels" the fraction of pixels whose
    class differs. None where no tile could be read; the run will say why.
    """
    ours, exact = _model(plan), load_model(plan.model, device=plan.device, tta=plan.tta)
    count = pixels = different = 0
    for tile in _spread(plan):
        try:
            image, valid = read_filled(plan, source, tile.read)
        except InputError:
            continue
        one, other = (
            model.predict(image[None], plan.statistics).labels[0] for model in (ours, exact)
        )
        kept = np.s_[: tile.write.rows, : tile.write.cols]
        data = np.ones(tile.write.size, np.bool_)
        if valid is not None:
            data = valid[tile.write.relative_to(tile.read).slices]
        different += int(np.count_nonzero((one[kept] != other[kept]) & data))
        pixels += int(np.count_nonzero(data))
        count += 1
    if not pixels:
        return None
    share = different / pixels
    _log.info("%s gives %.2g %% of pixels another class than fp32", plan.precision, 100 * share)
    return {"precision": plan.precision, "tiles": count, "pixels": pixels, "labels": share}


def _spread(plan: Plan) -> list[Tile]:
    """The middle tiles of a few blocks that are computed, spread evenly over the image."""
    chosen = Chosen(plan.selection, plan.grid.shape)
    looked_at = np.linspace(0, len(plan.grid) - 1, _BLOCKS_LOOKED_AT).astype(int)
    blocks = [plan.grid.block_at(int(index)) for index in np.unique(looked_at)]
    computed = [block for block in blocks if chosen.reason_to_skip(block.write) is None]
    if not computed:
        return []
    taken = np.unique(np.linspace(0, len(computed) - 1, _COMPARED).astype(int))
    return [computed[k].tiles[len(computed[k].tiles) // 2] for k in taken]


def _model(plan: Plan) -> Model:
    return load_model(
        plan.model,
        device=plan.device,
        precision=plan.precision,
        threads=plan.threads,
        tta=plan.tta,
    )


def _middle(shape: Size, side: int) -> Window:
    rows, cols = (min(side, pixels) for pixels in shape)
    return Window((shape.rows - rows) // 2, (shape.cols - cols) // 2, rows, cols)
