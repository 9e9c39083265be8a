"""What a run must not touch: its own inputs, and what tilseg did not make."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from tilseg.errors import ExistsError, OutputError

# First parts of the names in a result, in a workspace, and in a mask.zarr by itself.
_RESULT = (
    "mask", "probabilities", "labels", "regions", "tissue", "stac", "summary", "report", "run"
)  # fmt: skip
_WORKSPACE = ("plan", "journal-0", "result", "stores")
_ZARR = ("zarr", *map(str, range(32)))


def check_apart(places: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise OutputError E-OUTPUT-INPUT where one of `places` is, holds or lies in an input.

    Symbolic and hard links are seen through.
    """
    inputs = list(inputs)
    for place in places:
        real = place.resolve()
        for image in inputs:
            source = image.resolve()
            nested = real.is_relative_to(source) or source.is_relative_to(real)
            # Other than those of Path this takes a name too long for the disk for what it is.
            there = os.path.exists(place) and os.path.exists(image)
            if nested or (there and place.samefile(image)):
                raise OutputError("E-OUTPUT-INPUT", path=place, input=image)


def check_nothing_added(result: Path, named: Iterable[str] | None, prefix: str = "") -> None:
    """Raise ExistsError E-EXISTS-ADDED for a file in the folder `result` that is not ours.

    named: the files of its receipt, each with `prefix` before its path; None where the receipt
    can't be read, and only names in the folder itself can tell.
    """
    if not result.is_dir():
        return
    if named is None:
        added = [path for path in result.iterdir() if not _known(path.name, _RESULT + _ZARR)]
    else:
        ours = set(named)
        added = [
            path
            for path in result.rglob("*")
            if not path.is_dir() and str(Path(prefix, path.relative_to(result))) not in ours
        ]
    for path in sorted(added):
        raise ExistsError("E-EXISTS-ADDED", path=result, name=path.relative_to(result))


def check_ours(path: Path) -> None:
    """Raise ExistsError E-EXISTS-FOREIGN for a hidden place of a run that holds none of its files.

    A file is passed: it may be a mask between two renames.
    """
    if path.is_symlink() or path.is_dir():
        names = [] if path.is_symlink() else os.listdir(path)
        known = any(_known(name, _RESULT + _WORKSPACE + _ZARR) for name in names)
        if path.is_symlink() or (names and not known):
            raise ExistsError("E-EXISTS-FOREIGN", path=path)


def _known(name: str, stems: tuple[str, ...]) -> bool:
    return name.partition(".")[0] in stems
