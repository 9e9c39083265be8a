"""What tiling costs a model that is not exact under it, measured on the image at hand."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tilseg.model import load_model
from tilseg.nodata import fill_invalid, valid_pixels
from tilseg.plan import Plan
from tilseg.source import Source
from tilseg.window import Size, Window

# Tiles a side of the piece that is predicted in two ways.
_TILES = 2


def inexactness(plan: Plan, source: Source) -> dict[str, Any]:
    """Scores and labels of the middle of the image, in the plan's tiles and in half of them.

    Returns plain JSON: "reason" from the card, "tiles" compared, "score" the largest difference
    of a score, "labels" the fraction of pixels whose class differs.
    """
    from tilseg.models.network import TorchModel
    from tilseg.models.probe import measure_inexactness

    model = load_model(
        plan.model,
        device=plan.device,
        precision=plan.precision,
        threads=plan.threads,
        tta=plan.tta,
    )
    assert isinstance(model, TorchModel)
    tile = min(plan.grid.tile)
    half = max(model.field.step_below(tile // 2), model.field.stride)
    window = _middle(plan.grid.shape, _TILES * tile)
    pixels = source.read(window, plan.level, plan.bands)
    valid = valid_pixels(pixels, source.nodata, source.mask(window, plan.level))
    found = measure_inexactness(
        model, fill_invalid(pixels, valid, plan.statistics), plan.statistics, (tile, half)
    )
    return {"reason": model.card.inexact, "tiles": [tile, half], **asdict(found)}


def _middle(shape: Size, side: int) -> Window:
    rows, cols = (min(side, pixels) for pixels in shape)
    return Window((shape.rows - rows) // 2, (shape.cols - cols) // 2, rows, cols)
