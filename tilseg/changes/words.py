"""A change in words and figures, for the page and for the terminal."""

from __future__ import annotations

from collections.abc import Callable

from tilseg.changes.change import Change, Transition

TRANSITION_HEADS = ("value", "before", "after", "pixels", "of compared", "area", "regions")
CLASS_HEADS = ("class", "before", "after", "lost", "gained", "net")

# A unit whose square holds a million of the other's, and from how many on it is shown.
_LARGE = {"m": "km", "um": "mm"}
_MANY = 1e8


def facts(of: Change) -> dict[str, str]:
    """What sums a change up, by name."""
    changed = f"{of.changed_pixels:,} px ({_share(of, of.changed_pixels)})"
    return {
        "compared": f"{of.pixels:,} px{_and_area(of, of.area)}",
        "changed": f"{changed}{_and_area(of, of.changed_area)}",
        "no class": f"{of.missing_before:,} px before, {of.missing_after:,} more after",
    }


def ordered(of: Change) -> list[Transition]:
    """Changes, the largest first, and then what stayed."""
    return sorted(of.transitions, key=lambda each: (each.value == 0, -each.pixels))


def transition_cells(of: Change, each: Transition) -> tuple[str, ...]:
    """One line, as `TRANSITION_HEADS` names its cells."""
    return (
        str(each.value),
        each.before,
        each.after,
        f"{each.pixels:,}",
        _share(of, each.pixels),
        area(of, each.area),
        "-" if each.regions is None else f"{each.regions:,}",
    )


def class_rows(of: Change) -> list[tuple[str, tuple[str, ...]]]:
    """Colour, and cells as `CLASS_HEADS` names them, of each class: areas, or else pixels."""
    return [(each.color, (each.name, *_class_figures(of, each.name))) for each in of.classes]


def _class_figures(of: Change, name: str) -> tuple[str, ...]:
    old = _total(of, lambda each: each.before == name)
    new = _total(of, lambda each: each.after == name)
    kept = _total(of, lambda each: each.before == each.after == name)
    if old is None or new is None or kept is None:
        return ("-",) * 5
    net = f"{'+' if new > old else ''}{_amount(of, new - old)}"
    return (*(_amount(of, each) for each in (old, new, old - kept, new - kept)), net)


def _total(of: Change, chosen: Callable[[Transition], bool]) -> float | None:
    values = [each.area if of.area_unit else each.pixels for each in of.transitions if chosen(each)]
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def area(of: Change, value: float | None) -> str:
    """An area with its unit, the same for all of a change, or a dash."""
    if value is None:
        return "-"
    large = _LARGE.get(str(of.area_unit)) if (of.area or 0) >= _MANY else None
    return f"{value / 1e6:,.2f} {large}²" if large else f"{value:,.1f} {of.area_unit}²"


def _amount(of: Change, value: float) -> str:
    return area(of, value) if of.area_unit else f"{value:,.0f} px"


def _and_area(of: Change, value: float | None) -> str:
    return "" if value is None else f", {area(of, value)}"


def _share(of: Change, pixels: int) -> str:
    return f"{100 * pixels / of.pixels:.2f} %"
