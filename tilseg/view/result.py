"""What a run has written, or is writing: the parts of it that a page shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilseg.card import Card, read_card
from tilseg.durable import unseal
from tilseg.errors import InputError
from tilseg.fingerprint import plan_from_json
from tilseg.georef import ONE_TO_ONE, Factors, Georef
from tilseg.plan import Plan
from tilseg.regions.names import LABELS, PARQUET
from tilseg.resample import grid_length
from tilseg.sinks.zarr import MaskStore
from tilseg.source import Source, image_name, open_source, reopen_source
from tilseg.stores import MASK
from tilseg.workspace import RECEIPT, Workspace

_TIF = "mask.tif"
# What another copy of the same file may have otherwise.
_OF_A_COPY = ("path", "mtime_ns")


@dataclass(frozen=True, slots=True)
class Result:
    """A result or an unfinished run, and the image it is of.

    name: of the image. plan, card: of the run. mask: a store or a TIFF. image: None where it is
    gone. factors: pixels of the image that one of the mask spans; 1 without an image. georef: of
    the image, or of the mask without one. regions, labels: where they are, if they are. summary:
    None until the run is finished. notices: what the user should know, one sentence each.
    """

    name: str
    plan: Plan
    card: Card
    mask: MaskStore | Source
    image: Source | None
    factors: Factors
    georef: Georef
    regions: Path | None
    labels: Path | None
    summary: dict[str, Any] | None
    notices: tuple[str, ...]


def open_result(output: Path) -> Result:
    """The result at `output`, or else the unfinished run that would become it.

    An image that is gone or no longer fits is left out, and a notice says so.

    Raises InputError (exit 4): E-INPUT-MISSING, E-VIEW-RESULT, and what a damaged mask gives;
    ModelError (6) for an unfinished run whose model is gone; ExistsError E-PARTIAL-DAMAGED (10).
    """
    space = Workspace(output.absolute())
    if output.exists() and _receipt_of(space).is_file():
        return _finished(space)
    unfinished = space.unfinished()
    if unfinished is not None:
        return _unfinished(space, unfinished)
    if not output.exists():
        raise InputError("E-INPUT-MISSING", path=output)
    raise InputError("E-VIEW-RESULT", path=output, reason="is no result of a run")


def result_stamp(output: Path) -> tuple[int, ...]:
    """A value that changes when another result, or the finished one, takes the place of one."""
    space = Workspace(output.absolute())
    masks = sorted(path.parent for path in space.partial.glob(f"*/{MASK}"))
    inodes = map(_inode, (_receipt_of(space), space.plan, *masks))
    return tuple(inode for inode in inodes if inode is not None)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        # A run moves its files while we look.
        return None


def _receipt_of(space: Workspace) -> Path:
    final = space.final
    return final.with_name(f"{final.name}.json") if space.single else final / RECEIPT


def _finished(space: Workspace) -> Result:
    try:
        receipt = unseal(_receipt_of(space).read_bytes())
    except (OSError, ValueError):
        reason = "its receipt is damaged"
        raise InputError("E-VIEW-RESULT", path=space.final, reason=reason) from None
    plan, card = plan_from_json(receipt["plan"]), Card.model_validate(receipt["model"])
    folder = space.final
    stored, tif = (folder, folder) if space.single else (folder / MASK, folder / _TIF)
    mask: MaskStore | Source
    if (stored / "zarr.json").is_file():
        mask = MaskStore.open(stored)
    else:
        mask = open_source(tif, palette="index")
    notices = []
    if bad := receipt["bad_tiles"]:
        notices.append(f"{len(bad):,} tiles could not be computed and are left out of the mask.")
    image = _image(plan, receipt["fingerprint"]["input"], folder.parent, notices)
    # A TIFF on a map lies on the image's own grid, whatever the run's was.
    on_image = not isinstance(mask, MaskStore) and mask.georef.is_map
    regions, labels = folder / PARQUET, folder / LABELS
    return Result(
        image_name(plan.source),
        plan,
        card,
        mask,
        image,
        ONE_TO_ONE if on_image and plan.factors else _factors(plan, image),
        mask.georef if image is None else image.georef,
        regions if regions.is_file() else None,
        labels if labels.is_dir() else None,
        receipt["summary"],
        tuple(notices),
    )


def _unfinished(space: Workspace, content: dict[str, Any]) -> Result:
    plan = plan_from_json(content["plan"])
    stores = sorted(space.partial.glob(f"*/{MASK}/0/zarr.json"))
    if not stores:
        # Killed, or looked at, before the first block.
        raise InputError("E-VIEW-RESULT", path=space.final, reason="has no block yet")
    notices: list[str] = []
    image = _image(plan, content["fingerprint"]["input"], space.final.parent, notices)
    return Result(
        image_name(plan.source),
        plan,
        read_card(plan.model),
        MaskStore.open(stores[-1].parent.parent),
        image,
        _factors(plan, image),
        Georef() if image is None else image.georef,
        None,
        None,
        None,
        tuple(notices),
    )


def _factors(plan: Plan, image: Source | None) -> Factors:
    """Pixels of the image that one of the run's grid spans; 1 without an image."""
    if image is None:
        return ONE_TO_ONE
    level = image.levels[plan.level]
    return plan.factors or Factors(level.row_factor, level.col_factor)


def _image(plan: Plan, identity: dict[str, Any], near: Path, notices: list[str]) -> Source | None:
    """The image of a run, or a file of its name beside the result; None where it does not fit."""
    try:
        image = reopen_source(plan.source)
    except (InputError, OSError) as error:
        moved = near / Path(str(identity.get("path", ""))).name
        if not moved.is_file():
            reason = error.problem if isinstance(error, InputError) else error
            notices.append(f"The mask is shown without its image: {reason}.")
            return None
        choice = identity.get("choice")
        image = reopen_source(f"{moved}#{choice}" if choice else str(moved))
    if not _fits(plan, image):
        notices.append("The mask is shown without its image, which is another now.")
        image.close()
        return None
    if _content(image.identity()) != _content(identity):
        notices.append("The image has changed since the run: the mask may not fit it.")
    return image


def _fits(plan: Plan, image: Source) -> bool:
    if plan.factors is not None:
        return plan.grid.shape == tuple(map(grid_length, image.shape, plan.factors))
    return plan.level < len(image.levels) and plan.grid.shape == image.levels[plan.level].size


def _content(identity: Any) -> Any:
    """An identity without what another copy may have otherwise."""
    if isinstance(identity, dict):
        return {k: _content(v) for k, v in identity.items() if k not in _OF_A_COPY}
    return [_content(each) for each in identity] if isinstance(identity, list) else identity
