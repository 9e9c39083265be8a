"""Legend files: which colours, numbers or words of a truth are which class.

{"classes": [{"value": 0, "name": "land", "color": "#8429f6"},
             {"value": 1, "name": "water", "from": ["#e2a929", 7, "river"]}],
 "ignore": ["#9b9b9b"],
 "property": "landuse"}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tilseg.errors import UsageError
from tilseg.truth.class_map import IGNORED

Key = int | str


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Class(_Strict):
    value: Annotated[int, Field(ge=0, lt=IGNORED)]
    name: str = ""
    color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] | None = None
    origin: Annotated[tuple[Key, ...], Field(alias="from")] = ()

    def keys(self) -> Iterator[Key]:
        """What stands for this class: `from`, or its own value, colour and name."""
        if self.origin:
            yield from self.origin
            return
        yield self.value
        yield from (text for text in (self.color, self.name) if text)


class _File(_Strict):
    classes: Annotated[tuple[_Class, ...], Field(min_length=1)]
    ignore: tuple[Key, ...] = ()
    property: str | None = None


@dataclass(frozen=True, slots=True)
class Legend:
    """What stands for each class.

    path: for messages. class_of: class of every number, "#rrggbb" in small letters, or word;
    IGNORED for those without a class. names, colors: of classes. attribute: the property of the
    features of a vector truth that holds the number or word, or None.
    """

    path: str
    class_of: dict[Key, int]
    names: dict[int, str]
    colors: dict[int, str]
    attribute: str | None

    @property
    def rgb(self) -> dict[int, int]:
        """Class by colour, as the number 0xrrggbb."""
        named = self.class_of.items()
        return {
            int(key[1:], 16): value
            for key, value in named
            if isinstance(key, str) and _is_color(key)
        }


def read_legend(path: str | Path) -> Legend:
    """The legend in a JSON file.

    Raises UsageError E-LEGEND naming the first thing that is wrong in it.
    """
    try:
        file = _File.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise UsageError("E-LEGEND", path=path, reason=error.strerror) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError("E-LEGEND", path=path, reason=f"{place} {first['msg']}".strip()) from None
    class_of: dict[Key, int] = {}
    pairs = [(key, one.value) for one in file.classes for key in one.keys()]  # noqa: SIM118
    for key, value in [*pairs, *((key, IGNORED) for key in file.ignore)]:
        folded = key.lower() if isinstance(key, str) and _is_color(key) else key
        if class_of.setdefault(folded, value) != value:
            raise UsageError("E-LEGEND", path=path, reason=f"names {key!r} twice")
    names = {one.value: one.name for one in file.classes if one.name}
    colors = {one.value: one.color for one in file.classes if one.color}
    return Legend(str(path), class_of, names, colors, file.property)


def _is_color(text: str) -> bool:
    return (
        len(text) == 7 and text[0] == "#" and all(c in "0123456789abcdef" for c in text[1:].lower())
    )
