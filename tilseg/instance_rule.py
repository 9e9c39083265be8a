"""The ways to tell objects apart that touch, as a model card or an option states them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from tilseg.errors import UsageError

MAX_RADIUS = 64
_BORDER = "border"
# A misspelt field of a card is refused.
_STRICT: dict[str, Any] = {"extra": "forbid"}


@dataclass(frozen=True, slots=True)
class Watershed:
    """Objects are cut at their necks.

    depth: pixels by which the half width of an object must exceed that of its widest neck, for
    what lies beyond the neck to be another object.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    depth: float = 0.75
    way: Literal["watershed"] = "watershed"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.depth) and self.depth >= 0):
            raise ValueError(f"depth is {self.depth}, where it is 0 or more pixels")


@dataclass(frozen=True, slots=True)
class Border:
    """Objects are what the network keeps apart by a class of its own for their borders.

    radius: pixels, up to 64, by which objects grow back into that class. border: its value; None
    for the class that is named "border".
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    radius: int = 3
    border: int | None = None
    way: Literal["border"] = "border"

    def __post_init__(self) -> None:
        if not 0 <= self.radius <= MAX_RADIUS:
            raise ValueError(f"radius is {self.radius}, where it is 0 to {MAX_RADIUS} pixels")


InstanceRule = Watershed | Border


def settled(rule: InstanceRule | None, names: Sequence[str]) -> InstanceRule | None:
    """`rule` with the value of its border class, from the names of the mask's classes.

    Raises UsageError E-INSTANCE-BORDER where none is named "border".
    """
    if not isinstance(rule, Border) or rule.border is not None:
        return rule
    if _BORDER not in names:
        raise UsageError("E-INSTANCE-BORDER", names=", ".join(names) or "without names")
    return replace(rule, border=list(names).index(_BORDER))
