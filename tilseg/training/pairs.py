"""Images and their labels found: two folders paired by name, two files, or a table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tilseg.errors import InputError
from tilseg.truth.features import is_vector

# Beside images lie world files, overviews and notes: only these suffixes are looked at.
SUFFIXES = (
    *(".tif", ".tiff", ".btf", ".png", ".jpg", ".jpeg", ".zarr"),
    *(".svs", ".ndpi", ".scn", ".mrxs", ".bif", ".svslide"),
)
PARTS = ("training", "validation")


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its labels, as `open_source` and `open_labels` take them.

    name: of the image, with "/", without suffix. group: groups are split and scored apart.
    patient: pairs of one are never split. part: "training" or "validation" where that is settled.
    """

    name: str
    image: str
    mask: str
    group: str = ""
    patient: str = ""
    part: str = ""


def find_pairs(images: str | os.PathLike[str], masks: str | os.PathLike[str]) -> tuple[Pair, ...]:
    """Pair two folders by the names below them, two files, or a folder of images and one file of
    polygons that is for all of them; sorted by name. Subfolders are groups.

    Raises InputError (exit 4): E-INPUT-MISSING for a path that isn't there, E-TRAIN-EMPTY for
    a folder without images, E-TRAIN-PAIR for an image or labels alone or a name used twice.
    """
    images, masks = Path(images), Path(masks)
    for path in (images, masks):
        if not path.exists():
            raise InputError("E-INPUT-MISSING", path=path)
    folders = [path.is_dir() and path.suffix.lower() != ".zarr" for path in (images, masks)]
    if folders == [False, False]:
        return (Pair(_name(images, images.parent), str(images), str(masks)),)
    if folders == [True, False] and is_vector(masks):
        return tuple(_pair(name, path, masks) for name, path in sorted(_by_name(images).items()))
    if folders != [True, True]:
        raise InputError("E-TRAIN-PAIR", path=masks, reason="one is a folder, one a file")
    found, labels = _by_name(images), _by_name(masks, vectors=True)
    for name in sorted(found.keys() ^ labels.keys()):
        path, other = (found[name], masks) if name in found else (labels[name], images)
        raise InputError("E-TRAIN-PAIR", path=path, reason=f"nothing in {other} has its name")
    return tuple(_pair(name, found[name], labels[name]) for name in sorted(found))


def _pair(name: str, image: Path, mask: Path) -> Pair:
    return Pair(name, str(image), str(mask), name.rpartition("/")[0])


def _by_name(folder: Path, *, vectors: bool = False) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in _files(folder):
        if path.suffix.lower() not in SUFFIXES and not (vectors and is_vector(path)):
            continue
        name = _name(path, folder)
        if name in named:
            raise InputError("E-TRAIN-PAIR", path=path, reason=f"{named[name]} has the same name")
        named[name] = path
    if not named:
        raise InputError("E-TRAIN-EMPTY", path=folder, suffixes=" ".join(SUFFIXES))
    return named


def _files(folder: Path) -> Iterator[Path]:
    """All below a folder, not what is inside an image that is one."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir() and path.suffix.lower() != ".zarr":
            yield from _files(path)
        else:
            yield path


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix().removesuffix(".ome")
