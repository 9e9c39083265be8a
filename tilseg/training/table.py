"""A table of labelled images: CSV with the columns image and mask, and where wanted split, group
and patient."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from tilseg.errors import InputError, nearest
from tilseg.names import placed
from tilseg.training.pairs import PARTS, Pair

_NEEDED = ("image", "mask")
_COLUMNS = (*_NEEDED, "split", "group", "patient")


def read_table(path: str | Path) -> tuple[Pair, ...]:
    """The pairs of a CSV file in UTF-8, in its order.

    image, mask: files, from the table's own folder on, as `open_source` takes them.
    split: "training" or "validation", in every row or in none. group: scored apart, and split
    apart. patient: whose images are all on one side.

    Raises InputError E-INPUT-MISSING, E-TRAIN-TABLE.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("E-INPUT-MISSING", path=path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _refuse(path, f"can't be read ({error})") from None
    for column in columns:
        if column not in _COLUMNS:
            raise _refuse(path, f"unknown column {column!r}{nearest(column, _COLUMNS)}")
    for column in _NEEDED:
        if column not in columns:
            raise _refuse(path, f"has no column {column!r}")
    if not rows:
        raise _refuse(path, "has no row")
    pairs = [_pair(path, number, row) for number, row in enumerate(rows, start=2)]
    return _checked(path, pairs)


def _pair(path: Path, number: int, row: dict[str, str]) -> Pair:
    # A row that is too long has its rest under None, one that is too short has None in it.
    if None in row or None in row.values():
        raise _refuse(path, f"line {number} has another number of columns than the first")
    cells = {column: cell.strip() for column, cell in row.items()}
    for column in _NEEDED:
        if not cells[column]:
            raise _refuse(path, f"line {number} has no {column}")
    part = cells.get("split", "")
    if part and part not in PARTS:
        raise _refuse(path, f"line {number} has the split {part!r}, where {' or '.join(PARTS)} is")
    name = Path(cells["image"]).with_suffix("").as_posix().removesuffix(".ome")
    group = cells.get("group", "")
    image, mask = (placed(cells[column], path.parent) for column in _NEEDED)
    return Pair(name.rpartition("/")[2], image, mask, group, cells.get("patient", ""), part)


def _checked(path: Path, pairs: list[Pair]) -> tuple[Pair, ...]:
    name, count = Counter(pair.image for pair in pairs).most_common(1)[0]
    if count > 1:
        raise _refuse(path, f"names {name} {count} times")
    parts = {pair.part for pair in pairs}
    if parts != {""} and parts != set(PARTS):
        raise _refuse(path, f"needs a split in every row, and both of {' and '.join(PARTS)}")
    return tuple(pairs)


def _refuse(path: Path, reason: str) -> InputError:
    return InputError("E-TRAIN-TABLE", path=path, reason=reason)
