"""Images and masks found, paired by name and split by image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tilseg.errors import InputError
from tilseg.window import Size, Window

# Beside images lie world files, overviews and notes: only these suffixes are looked at.
SUFFIXES = (".tif", ".tiff", ".btf", ".svs", ".ndpi", ".scn", ".png", ".jpg", ".jpeg", ".jp2")


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its mask.

    name: path below the folder without suffix, with "/". group: the part of `name` before its
    last "/", "" without one; groups are split and scored apart.
    """

    name: str
    image: Path
    mask: Path

    @property
    def group(self) -> str:
        return self.name.rpartition("/")[0]


def find_pairs(images: str | os.PathLike[str], masks: str | os.PathLike[str]) -> tuple[Pair, ...]:
    """Pair two folders by the names below them, or two files; sorted by name.

    Raises InputError (exit 4): E-INPUT-MISSING for a path that isn't there, E-TRAIN-EMPTY for
    a folder without images, E-TRAIN-PAIR for an image or a mask alone or a name used twice.
    """
    images, masks = Path(images), Path(masks)
    for path in (images, masks):
        if not path.exists():
            raise InputError("E-INPUT-MISSING", path=path)
    if images.is_dir() != masks.is_dir():
        raise InputError("E-TRAIN-PAIR", path=masks, reason="one is a folder, one a file")
    if not images.is_dir():
        return (Pair(_name(images, images.parent), images, masks),)
    found, labels = _by_name(images), _by_name(masks)
    for name in sorted(found.keys() ^ labels.keys()):
        path, other = (found[name], masks) if name in found else (labels[name], images)
        raise InputError("E-TRAIN-PAIR", path=path, reason=f"nothing in {other} has its name")
    return tuple(Pair(name, found[name], labels[name]) for name in sorted(found))


def _by_name(folder: Path) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or path.is_dir():
            continue
        name = _name(path, folder)
        if name in named:
            raise InputError("E-TRAIN-PAIR", path=path, reason=f"{named[name]} has the same name")
        named[name] = path
    if not named:
        raise InputError("E-TRAIN-EMPTY", path=folder, suffixes=" ".join(SUFFIXES))
    return named


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix().removesuffix(".ome")


def split_pairs(
    pairs: Sequence[Pair], fraction: float, seed: int
) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Training and validation pairs of two or more; about `fraction` is for validation, and at
    least one of every group of two or more.

    The draw within a group depends on its names and the seed alone, not on other groups.
    """
    groups = {pair.group for pair in pairs}
    if len(groups) == len(pairs):
        return _draw(pairs, fraction, seed)
    training: list[Pair] = []
    validation: list[Pair] = []
    for group in sorted(groups):
        kept, held = _draw([pair for pair in pairs if pair.group == group], fraction, seed)
        training += kept
        validation += held
    return tuple(training), tuple(validation)


def _draw(
    pairs: Sequence[Pair], fraction: float, seed: int
) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    count = min(max(1, round(fraction * len(pairs))), len(pairs) - 1)
    drawn = np.random.default_rng(seed).permutation(len(pairs))[:count]
    held = tuple(pair for index, pair in enumerate(pairs) if index in drawn)
    return tuple(pair for pair in pairs if pair not in held), held


def split_region(shape: Size, fraction: float) -> tuple[Window, Window]:
    """Training and validation part of a single image, cut across its longer side.

    Raises InputError E-TRAIN-SPLIT for an image of one pixel.
    """
    longest = max(shape)
    if longest < 2:
        raise InputError("E-TRAIN-SPLIT", rows=shape.rows, cols=shape.cols)
    held = min(max(1, round(fraction * longest)), longest - 1)
    kept = longest - held
    if shape.rows >= shape.cols:
        return Window(0, 0, kept, shape.cols), Window(kept, 0, held, shape.cols)
    return Window(0, 0, shape.rows, kept), Window(0, kept, shape.rows, held)
