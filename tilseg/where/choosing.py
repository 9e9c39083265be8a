"""The selection that a plan's options ask for; what makes it is loaded only where it is wanted."""

from __future__ import annotations

import os

from tilseg.card import Card
from tilseg.errors import InputError, UsageError
from tilseg.plan import TileGrid
from tilseg.selection import AUTO, EVERYTHING, Selection, TissueMask
from tilseg.source import Source

_ALL = "none"


def choose_selection(
    image: Source,
    source: Source,
    card: Card,
    *,
    level: int,
    bands: tuple[int, ...],
    tissue: str | os.PathLike[str] | None,
    roi: str | os.PathLike[str] | None,
) -> Selection:
    """What to segment of `level` of `source`, which is `image`, resampled or not.

    tissue: "auto", "none", the path of a mask, or None for what the card asks. roi: the path of a
    GeoJSON file, or None.

    Raises UsageError E-OPTION for tissue without a background class, and what `find_tissue`,
    `read_tissue` and `read_roi` raise.
    """
    mask = region = None
    wanted = card.tissue if tissue is None else os.fspath(tissue)
    if wanted != _ALL:
        if card.background is None:
            allowed = f"{_ALL}, for the model has no background class"
            raise UsageError("E-OPTION", option="--tissue", value=wanted, allowed=allowed)
        mask = _tissue(image, source, level, bands, wanted)
    if roi is not None:
        from tilseg.where.roi import read_roi

        region = read_roi(roi, source, level)
    return Selection(mask, region)


def _tissue(
    image: Source, source: Source, level: int, bands: tuple[int, ...], wanted: str
) -> TissueMask:
    from tilseg.where.tissue import find_tissue, read_tissue

    if wanted == AUTO:
        # Of the image as it is: its pyramid has an overview ready.
        return find_tissue(image, bands, level)
    return read_tissue(wanted, source.levels[level].size)


def check_some(source: Source, selection: Selection, grid: TileGrid) -> None:
    """Raises InputError E-TISSUE-NONE where a selection leaves nothing of a grid."""
    if selection == EVERYTHING:
        return
    from tilseg.where.chosen import skipped_blocks

    if len(skipped_blocks(selection, grid)) == len(grid):
        raise InputError("E-TISSUE-NONE", path=source.uri, where="lies in the region of interest")
