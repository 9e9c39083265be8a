"""Planes of images with more axes than rows, columns and bands: chosen, never taken silently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tilseg.choice import Choice
from tilseg.errors import InputError, UsageError


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis other than rows and columns: its name in the file, its size, and the field of
    `Choice` that chooses a place on it, "" where there is none."""

    name: str
    size: int
    option: str


def with_number(path: object, choice: Choice, names: Sequence[str]) -> Choice:
    """`choice` with the number of the channel that it names, none for the only one there is.

    names: of all channels, or empty. Raises UsageError E-CHANNEL unless one of them is meant.
    """
    if not isinstance(choice.channel, str):
        return choice
    wanted = choice.channel.casefold()
    found = [number for number, name in enumerate(names) if name.casefold() == wanted]
    if len(found) != 1:
        reason = f"{len(found) or 'no'} channels are named {choice.channel!r}"
        known = ", ".join(
            f"{number} ({name})" if name else f"{number}" for number, name in enumerate(names)
        )
        raise UsageError(
            "E-CHANNEL", path=path, reason=reason, known=known or "a number: it names none"
        )
    return replace(choice, channel=found[0] if len(names) > 1 else None)


def band_names(names: Sequence[str], choice: Choice, bands: int) -> tuple[str, ...]:
    """Names of the bands by those of all channels; "" for each where they do not fit."""
    chosen = names[choice.channel :][:1] if isinstance(choice.channel, int) else names
    return tuple(chosen) if len(chosen) == bands else ("",) * bands


def places(
    path: object, axes: Sequence[Axis], choice: Choice, *, shown: str, bands_inside: bool
) -> tuple[list[tuple[int, ...]], bool]:
    """Places on `axes` of the planes to read, and whether these planes are the bands.

    All channels are bands unless one is chosen, or the planes hold bands themselves
    (`bands_inside`). An axis of one place needs no choice. shown: the axes for the message.

    Raises InputError E-INPUT-AMBIGUOUS for an axis left open, UsageError E-CHOICE for a
    choice on an axis the image has not, E-CHOICE-RANGE for a place it has not.
    """
    varying = {axis.option for axis in axes if axis.size > 1 and axis.option}
    choice.refuse_all_but(path, "series", "palette", *varying)
    channels = "channel" in varying and choice.channel is None and not bands_inside
    fixed = [_place(path, axis, choice) for axis in axes]
    left = [a for a, place in zip(axes, fixed, strict=True) if place is None]
    if channels:
        left = [axis for axis in left if axis.option != "channel"]
    if left:
        raise _ambiguous(path, left, shown)
    count = next((a.size for a, place in zip(axes, fixed, strict=True) if place is None), 1)
    return [tuple(k if p is None else p for p in fixed) for k in range(count)], channels


def _place(path: object, axis: Axis, choice: Choice) -> int | None:
    """The chosen place on an axis, the only one, or None where it is open."""
    chosen: int | None = getattr(choice, axis.option) if axis.option else None
    if axis.size == 1:
        return 0
    if chosen is not None:
        check_range(path, axis.option, chosen, axis.size)
    return chosen


def check_range(path: object, option: str, chosen: int, count: int) -> None:
    """Raise UsageError E-CHOICE-RANGE unless `chosen` is one of `count` places."""
    if not 0 <= chosen < count:
        raise UsageError("E-CHOICE-RANGE", path=path, option=option, value=chosen, last=count - 1)


def _ambiguous(path: object, left: list[Axis], shown: str) -> InputError:
    ways = [f"{axis.option} from 0 to {axis.size - 1}" for axis in left if axis.option]
    export = "one plane, by writing it to a file of its own"
    return InputError(
        "E-INPUT-AMBIGUOUS",
        path=path,
        found=f"holds the axes {shown}",
        choose=" and ".join(ways) if len(ways) == len(left) else export,
    )
