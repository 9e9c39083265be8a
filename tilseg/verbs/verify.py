"""`tilseg.verify`: a finished result against its receipt, byte by byte."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilseg.card import file_sha256
from tilseg.durable import unseal
from tilseg.errors import DamageError, InputError
from tilseg.fingerprint import plan_from_json
from tilseg.plan import TileGrid
from tilseg.receipt import CHANGE, files
from tilseg.workspace import RECEIPT, SINGLE, place_of


@dataclass(frozen=True, slots=True)
class Damage:
    """One file that is not as the receipt says: its path in the result, and what is wrong."""

    path: str
    what: str


def verify(
    output: str | os.PathLike[str], *, progress: Callable[[int, int], None] = lambda *_: None
) -> list[Damage]:
    """Reads every byte of the result `output` and returns all that differs from its receipt.

    A damaged shard is named with the pixels of its block. progress: called with (files done,
    files in all).

    Raises InputError E-INPUT-MISSING where there is no result, DamageError E-VERIFY-RECEIPT
    when the receipt itself is damaged.
    """
    result = Path(output)
    single = SINGLE.get(result.suffix.lower())
    if not result.exists():
        raise InputError("E-INPUT-MISSING", path=result)
    own = CHANGE if (result / CHANGE).is_file() else RECEIPT
    receipt = _receipt(result.with_name(f"{result.name}.json") if single else result / own)
    grid = plan_from_json(receipt["plan"]).grid if "plan" in receipt else None
    expected: dict[str, str] = receipt["files"]
    paths = files(result) if result.is_dir() else []
    # Receipts name files as they lie in a result; a single file is the result's mask.
    found = {str(Path(single or "") / path.relative_to(result)) for path in paths}
    damage = [
        Damage(name, "is not named by the receipt") for name in sorted(found - expected.keys())
    ]
    for done, (name, sha256) in enumerate(expected.items(), start=1):
        path = place_of(result, name)
        if not path.is_file():
            damage.append(Damage(name, f"is missing{_place(name, grid)}"))
        elif _hash(path) != sha256:
            damage.append(Damage(name, f"is damaged{_place(name, grid)}"))
        progress(done, len(expected))
    return damage


def _receipt(path: Path) -> dict[str, Any]:
    try:
        return unseal(path.read_bytes())
    except FileNotFoundError:
        raise InputError("E-INPUT-MISSING", path=path) from None
    except (OSError, ValueError):
        raise DamageError("E-VERIFY-RECEIPT", path=path) from None


def _hash(path: Path) -> str | None:
    try:
        return file_sha256(path)
    except OSError:
        return None


def _place(name: str, grid: TileGrid | None) -> str:
    """ " (block 7: rows ..., cols ...)" for a shard of level 0 of the mask."""
    parts = Path(name).parts
    if (
        grid is None
        or parts[:3] != ("mask.zarr", "0", "c")
        or not all(part.isdigit() for part in parts[3:])
    ):
        return ""
    row, col = map(int, parts[3:])
    index = row * grid.block_counts.cols + col
    return f" (block {index}: {grid.window_at(index)})"
