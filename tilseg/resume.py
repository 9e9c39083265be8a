"""What an earlier start left: which of its blocks hold, and all else removed.

Nothing a killed run left is believed. A block is kept when what is stored reads back with the
CRC-32 its journal line says; everything that is made from blocks is made again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tilseg.durable import remove, writing
from tilseg.journal import Journal
from tilseg.plan import Plan
from tilseg.side_by_side import side_by_side
from tilseg.stores import PROBABILITIES, TABLES, Stores


def tidy(result: Path, folder: Path, plan: Plan) -> None:
    """Empty `result`, the folder of the result, of all but the stores in `folder`, and these of all
    but blocks. Nobody else may be at work there.

    Raises OutputError E-OUTPUT-WRITE.
    """
    with writing(result):
        _keep_only(set(Stores.names(plan)), result, Path.is_dir)
        for name in Stores.names(plan):
            _strip(folder / name, plan)
        tables = {f"{index}.npz" for index in range(len(plan.grid))}
        _keep_only(tables, folder.parent / TABLES, Path.is_file)


def keep_sound(
    stores: Stores,
    plan: Plan,
    journal: Journal,
    part: range,
    *,
    keep_bad: bool,
    progress: Callable[[int, int], None],
) -> None:
    """Make `journal` name only those blocks of `part` that hold.

    keep_bad: whether blocks with tiles left out may stay. progress: called with (pixels read,
    pixels to read); what it raises ends it and leaves the journal as it was.
    """
    records = journal.records
    wanted = [
        index for index, record in records.items() if index in part and (keep_bad or not record.bad)
    ]
    areas = (plan.grid.window_at(index).size.area for index in wanted)
    done, total = 0, sum(plan.grid.window_at(index).size.area for index in wanted)

    def holds(index: int) -> bool:
        return stores.holds(plan, records[index])

    found = side_by_side(holds, wanted, stores.bytes_of_block)
    # Until all are looked at the journal stands: the caller takes an empty one for no work done.
    kept = []
    for index, area, held in zip(wanted, areas, found, strict=True):
        if held:
            kept.append(index)
        done += area
        progress(done, total)
    records.keep(kept)


def _strip(path: Path, plan: Plan) -> None:
    """Remove all of a store but the shards of level 0.

    The metadata is a few hundred bytes made from the plan; a torn one would be in the way.
    """
    rows, cols = plan.grid.block_counts
    shards = path / "0" / "c"
    _keep_only({"0"}, path, Path.is_dir)
    _keep_only({"c"}, path / "0", Path.is_dir)
    if path.name == PROBABILITIES:
        _keep_only({"0"}, shards, Path.is_dir)
        shards /= "0"
    _keep_only({str(row) for row in range(rows)}, shards, Path.is_dir)
    for row in range(rows):
        _keep_only({str(col) for col in range(cols)}, shards / str(row), Path.is_file)


def _keep_only(names: set[str], folder: Path, kind: Callable[[Path], bool]) -> None:
    if folder.is_dir():
        for each in folder.iterdir():
            if each.name not in names or not kind(each):
                remove(each)
