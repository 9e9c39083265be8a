"""Two maps on one grid as codes of the classes that they have together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilseg.changes.colors import distinct
from tilseg.errors import InputError, printable
from tilseg.georef import Georef
from tilseg.truth.class_map import IGNORED, MAX_CLASSES, ClassMap
from tilseg.window import Size, Window

# The code of a pixel without a class.
NONE = 255
_LONGEST_NAME = 90
_BACKGROUND = "#f1f3f5"


@dataclass(frozen=True, slots=True)
class ChangeClass:
    """A class of either map. before, after: the values it has there, () where it does not occur.

    name: its own, or "class 3". color: "#rrggbb".
    """

    name: str
    color: str
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two maps on one grid; the code of a class is its place in `classes`.

    tables: the code of each pixel of the map before, and of that after: (65536,) uint8.
    """

    before: ClassMap
    after: ClassMap
    classes: tuple[ChangeClass, ...]
    tables: tuple[NDArray[np.uint8], NDArray[np.uint8]]

    @property
    def shape(self) -> Size:
        return self.before.shape

    @property
    def georef(self) -> Georef:
        """Where both lie: as the first says, or where that says nothing, the second."""
        places = (self.before.georef, self.after.georef)
        return next((each for each in places if each.is_map or each.pixel_size), places[0])

    def read(self, window: Window) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Codes before and after in a window: (rows, cols) each, NONE where no class is."""
        before, after = self.tables
        return np.take(before, self.before.read(window)), np.take(after, self.after.read(window))


def paired(before: ClassMap, after: ClassMap) -> Pair:
    """The classes of both maps as one set: by name where both name theirs, else by value.

    Raises InputError E-CHANGE-CLASSES where no name of one is a name of the other,
    E-CLASSES-MANY.
    """
    keys = _keys(before, after)
    both = [
        dict(zip(each.values, own, strict=True))
        for each, own in zip((before, after), keys, strict=True)
    ]
    known = {key: None for own in both for _, key in sorted(own.items())}
    if len(known) > MAX_CLASSES:
        raise InputError("E-CLASSES-MANY", path=after.path, count=len(known), allowed=MAX_CLASSES)
    classes: dict[str, ChangeClass] = {}
    for number, key in enumerate(known):
        old, new = (tuple(value for value in own if own[value] == key) for own in both)
        name, color = _name_and_color(before, after, (old, new), number)
        # What is unnamed may be called as another is named.
        name = name if name not in classes else f"{name} ({number})"
        classes[name] = ChangeClass(name, color, old, new)
    codes = {key: code for code, key in enumerate(known)}
    return Pair(
        before, after, tuple(classes.values()), (_table(both[0], codes), _table(both[1], codes))
    )


def _keys(before: ClassMap, after: ClassMap) -> tuple[list[str | int], list[str | int]]:
    """What each class that occurs is known by, in both maps."""
    maps = (before, after)
    if not all(each.names.get(value) for each in maps for value in each.values):
        return list(before.values), list(after.values)
    if not {*before.names.values()} & {*after.names.values()}:
        raise InputError(
            "E-CHANGE-CLASSES",
            path=after.path,
            found=_listed(after.names),
            other=before.path,
            wanted=_listed(before.names),
        )
    named: list[list[str | int]] = [[each.names[value] for value in each.values] for each in maps]
    return named[0], named[1]


def _listed(names: Mapping[int, str]) -> str:
    return ", ".join(dict.fromkeys(names.values()))


def _name_and_color(
    before: ClassMap, after: ClassMap, values: tuple[tuple[int, ...], tuple[int, ...]], number: int
) -> tuple[str, str]:
    """Of the class that has `values` in both maps, the one of that number."""
    known = [
        (each, value) for each, own in zip((before, after), values, strict=True) for value in own
    ]
    names = [name for each, value in known if (name := each.names.get(value))]
    colors = [color for each, value in known if (color := each.colors.get(value))]
    first, value = known[0]
    name = printable(names[0]) if names else f"class {value}"
    if len(name) > _LONGEST_NAME:
        name = f"{name[: _LONGEST_NAME - 1]}…"
    own = _BACKGROUND if value == first.background else distinct(number)
    return name, colors[0] if colors else own


def _table(keys: Mapping[int, str | int], codes: Mapping[str | int, int]) -> NDArray[np.uint8]:
    table = np.full(IGNORED + 1, NONE, np.uint8)
    for value, key in keys.items():
        table[value] = codes[key]
    return table
