"""Which labelled images, or which parts of one, are for training and which for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from tilseg.errors import InputError, UsageError
from tilseg.receptive_field import ReceptiveField
from tilseg.training.pairs import PARTS, Pair
from tilseg.window import Size, Window

_Item = TypeVar("_Item")
_LEAST_BLOCK = 256  # pixels a side, where none is chosen


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an image: what is read of it, and the window in it whose labels count."""

    window: Window
    counted: Window


def split_pairs(
    pairs: Sequence[Pair], fraction: float, seed: int
) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Training and validation pairs; about `fraction` is for validation, and at least one of
    every group of two or more.

    Where the pairs say their part, that holds. Else the draw within a group depends on its names
    and the seed alone, not on other groups, and the pairs of a patient go together.

    Raises InputError E-TRAIN-PATIENT where all pairs are of one.
    """
    if any(pair.part for pair in pairs):
        kept, held = (tuple(p for p in pairs if p.part == part) for part in PARTS)
        return kept, held
    units = _units(pairs)
    if len(units) == 1:
        raise InputError("E-TRAIN-PATIENT", name=pairs[0].patient)
    groups = {unit[0].group for unit in units}
    if len(groups) == len(units):
        training, validation = _draw(units, fraction, seed)
    else:
        training, validation = [], []
        for group in sorted(groups):
            own = _draw([unit for unit in units if unit[0].group == group], fraction, seed)
            training += own[0]
            validation += own[1]
    return sum(training, ()), sum(validation, ())


def _units(pairs: Sequence[Pair]) -> list[tuple[Pair, ...]]:
    """Pairs that go together, in the order in which they begin."""
    units: dict[object, tuple[Pair, ...]] = {}
    for number, pair in enumerate(pairs):
        key = pair.patient or number
        units[key] = (*units.get(key, ()), pair)
    return list(units.values())


def _draw(
    items: Sequence[_Item], fraction: float, seed: int | list[int]
) -> tuple[list[_Item], list[_Item]]:
    """What stays and what is held out, each in its order; something stays."""
    count = min(max(1, round(fraction * len(items))), len(items) - 1)
    drawn = set(np.random.default_rng(seed).permutation(len(items))[:count].tolist())
    held = [item for index, item in enumerate(items) if index in drawn]
    return [item for index, item in enumerate(items) if index not in drawn], held


def split_ends(
    shape: Size, fraction: float, *, path: str = "the image"
) -> tuple[list[Region], list[Region]]:
    """Training and validation part of a single image, cut across its longer side. path: of it.

    Raises InputError E-TRAIN-SPLIT for an image of one pixel.
    """
    longest = max(shape)
    if longest < 2:
        raise _refused(path, shape, "two parts", "two pixels or more")
    held = min(max(1, round(fraction * longest)), longest - 1)
    kept = longest - held
    if shape.rows >= shape.cols:
        parts = Window(0, 0, kept, shape.cols), Window(kept, 0, held, shape.cols)
    else:
        parts = Window(0, 0, shape.rows, kept), Window(0, kept, shape.rows, held)
    training, validation = ([Region(part, part)] for part in parts)
    return training, validation


def split_blocks(
    shape: Size,
    side: int | None,
    fraction: float,
    seed: list[int],
    field: ReceptiveField,
    *,
    path: str = "the image",
) -> tuple[list[Region], list[Region]]:
    """Training and validation blocks of one image, of about `side` pixels; None for 256, or four
    times the halo where that is more.

    Blocks are cut on the lattice of the network. Of a held-out block the ring of one halo beside
    other blocks gives context and does not count. So what counts lies a halo or more from every
    pixel of another block, no window that is read for it has a pixel that was trained on, and it
    is predicted as a run over the whole image predicts it.

    Raises UsageError E-OPTION for blocks in which nothing would count, InputError E-TRAIN-SPLIT
    for an image of one block.
    """
    side = side or max(_LEAST_BLOCK, 4 * field.halo)
    if side < 2 * field.halo + field.stride:
        allowed = f"{3 * field.halo} or more with this network, whose halo is {field.halo}"
        raise UsageError("E-OPTION", option="--block", value=side, allowed=allowed)
    rows, cols = (_cuts(length, side, field.stride) for length in shape)
    blocks = [
        Window(top, left, bottom - top, right - left)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(cols)
    ]
    if len(blocks) < 2:
        allowed = "a smaller --block, larger images, or --split images"
        raise _refused(path, shape, f"blocks of {side}", allowed)
    kept, held = _draw(blocks, fraction, seed)
    inner = [Region(block, _inner(block, shape, field.halo)) for block in held]
    return [Region(block, block) for block in kept], inner


def _refused(path: str, shape: Size, parts: str, allowed: str) -> InputError:
    facts = {"rows": shape.rows, "cols": shape.cols, "parts": parts, "allowed": allowed}
    return InputError("E-TRAIN-SPLIT", path=path, **facts)


def _cuts(length: int, side: int, stride: int) -> list[int]:
    """Where blocks begin and end: every `side` pixels of the lattice, a rest goes to the last."""
    step = max(1, round(side / stride)) * stride
    count = max(1, length // step)
    return [*range(0, count * step, step), length]


def _inner(block: Window, shape: Size, halo: int) -> Window:
    """The block without a ring of `halo` where it is not at the edge of the image."""
    top = block.row + halo * (block.row > 0)
    left = block.col + halo * (block.col > 0)
    bottom = block.row_stop - halo * (block.row_stop < shape.rows)
    right = block.col_stop - halo * (block.col_stop < shape.cols)
    return Window(top, left, bottom - top, right - left)
