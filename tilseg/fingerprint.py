"""What makes two runs the same run: everything that changes a pixel, as readable fields.

Lanes, workers, memory and scheduler are not in it: they never change a pixel.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from tilseg.plan import Plan
from tilseg.selection import AUTO, Selection

# Raised whenever the same fields would give other pixels.
PIXEL_SCHEMA = 1

_plans = TypeAdapter(Plan)


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON values; floats survive to the last bit."""
    content: dict[str, Any] = _plans.dump_python(plan, mode="json")
    return content


def plan_from_json(content: dict[str, Any]) -> Plan:
    """The plan that `plan_to_json` wrote."""
    return _plans.validate_python(content)


def fingerprint(plan: Plan, identity: dict[str, Any], outputs: tuple[str, ...]) -> dict[str, Any]:
    """The fields two runs must share, under the names that an error shows."""
    grid = plan.grid
    return {
        "input": identity,
        "model": plan.model_sha256,
        "tile": list(grid.tile),
        "block": list(grid.block),
        "level": plan.level,
        "resampling": None if plan.factors is None else list(plan.factors),
        "bands": [band + 1 for band in plan.bands],
        "normalization": {"mean": list(plan.statistics.mean), "std": list(plan.statistics.std)},
        "precision": plan.precision,
        "device": plan.device,
        "threads": plan.threads,
        "ranges": [list(pair) for pair in plan.ranges] or None,
        "tta": plan.tta,
        "probabilities": plan.probabilities,
        "regions": plan_to_json(plan)["regions"],
        "tissue": None if plan.selection.tissue is None else plan.selection.tissue.sha256,
        "roi": None if plan.selection.roi is None else plan.selection.roi.sha256,
        "outputs": list(outputs),
        "schema": PIXEL_SCHEMA,
    }


def differences(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The fields in which two fingerprints differ, with both values; "" when there are none."""
    return ", ".join(f"{name} ({_change(old, new, name)})" for name in _differing(old, new))


def _differing(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [name for name in {**old, **new} if old.get(name) != new.get(name)]


def _change(old: dict[str, Any], new: dict[str, Any], name: str) -> str:
    if name == "input":
        # Only what differs: the same file, changed in place, would look the same twice.
        was, now = old.get(name, {}), new.get(name, {})
        return ", ".join(
            f"{each} {str(was.get(each))[-60:]} -> {str(now.get(each))[-60:]}"
            for each in _differing(was, now)
        )
    return f"{_short(old, name)} -> {_short(new, name)}"


def _short(prints: dict[str, Any], name: str) -> str:
    value = prints.get(name)
    if name in ("model", "tissue", "roi") and isinstance(value, str):
        return value[:12]
    if name == "regions":
        return "none" if value is None else " ".join(f"{k}={v}" for k, v in value.items())
    if name == "ranges":
        return "none" if value is None else f"of {len(value)} maps"
    if name in ("tile", "block") and isinstance(value, list):
        # Width first, as `tilseg plan` shows it.
        return " x ".join(map(str, reversed(value)))
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value)


def adopt(plan: Plan, frozen: Plan) -> Plan:
    """`plan` with everything tilseg chose for itself taken from the `frozen` first start.

    A resume on a bigger machine keeps the tile it began with; what the user asked for by name
    stays, and shows up as a difference where it is one.
    """
    auto = plan.auto
    changes: dict[str, Any] = {}
    for name in ("bands", "level", "threads"):
        if name in auto:
            changes[name] = getattr(frozen, name)
    mine, theirs = plan.grid, frozen.grid
    same_image = (mine.shape, mine.field) == (theirs.shape, theirs.field)
    if same_image and ("tile" in auto or mine.tile == theirs.tile):
        changes["grid"] = theirs
    if "threads" in auto and plan.threads != frozen.threads:
        cpus = plan.lanes * plan.threads
        changes["lanes"] = max(1, min(frozen.lanes, cpus // frozen.threads))
    if _sampled(plan) == _sampled(frozen):
        changes["statistics"] = frozen.statistics
        if plan.precision == frozen.precision:
            changes["ranges"] = frozen.ranges
        changes["selection"] = _adopted(plan.selection, frozen.selection)
    return replace(plan, **changes)


def _sampled(plan: Plan) -> tuple[object, ...]:
    """What the statistics of an image depend on."""
    return plan.bands, plan.level, plan.factors


def _adopted(selection: Selection, frozen: Selection) -> Selection:
    """`selection` with the tissue that the first start found, where both look for it."""
    mine, theirs = selection.tissue, frozen.tissue
    found = mine is not None and theirs is not None and mine.origin == theirs.origin == AUTO
    return replace(selection, tissue=theirs) if found else selection
