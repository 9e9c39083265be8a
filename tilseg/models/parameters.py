"""Parameters of a card, checked against the configuration of an architecture."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from tilseg.errors import ModelError, nearest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Config = TypeVar("Config", bound=DataclassInstance)

# What a parameter of this name may be, in whichever architecture.
_BOUNDS = {
    "bands": (1, 4096),
    "classes": (1, 255),
    "depth": (1, 8),
    "width": (1, 1024),
    "convs": (1, 8),
    "dense": (1, 65536),
    "stem": (1, 1024),
    "halo": (0, 65536),
}


def parse(kind: type[Config], architecture: str, parameters: dict[str, Any]) -> Config:
    """The configuration `kind`, a dataclass, of the architecture of that name.

    Raises ModelError E-MODEL-PARAMETERS naming the first parameter that is unknown, missing or
    not allowed.
    """
    hints = get_type_hints(kind)
    for name in parameters:
        if name not in hints:
            refuse(architecture, f"there is no parameter {name!r}{nearest(name, hints)}")
    for field in fields(kind):
        if field.default is MISSING and field.name not in parameters:
            refuse(architecture, f"parameter {field.name!r} is missing")
    for name, value in parameters.items():
        allowed = _not_allowed(name, value, hints[name])
        if allowed:
            refuse(architecture, f"parameter {name!r} is {value!r}; use {allowed}")
    return kind(**parameters)


def _not_allowed(name: str, value: Any, hint: Any) -> str:
    """What would be allowed where `value` is not, else ""."""
    if hint is bool:
        good, allowed = isinstance(value, bool), "true or false"
    elif hint is int:
        low, high = _BOUNDS[name]
        good = type(value) is int and low <= value <= high
        allowed = f"a whole number from {low} to {high}"
    elif hint is float:
        good = type(value) in (int, float) and 0 <= value < 1
        allowed = "a number from 0 up to, not including, 1"
    else:
        good = value in get_args(hint)
        allowed = "one of " + ", ".join(map(str, get_args(hint)))
    return "" if good else allowed


def refuse(architecture: str, reason: str) -> None:
    """Raises ModelError E-MODEL-PARAMETERS."""
    raise ModelError("E-MODEL-PARAMETERS", architecture=architecture, reason=reason)
