"""What an earlier start left: which of its blocks hold, and all else removed.

Nothing a killed run left is believed. A block is kept when what is stored reads back with the
CRC-32 its journal line says; everything that is made from blocks is made again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tilseg.durable import remove, writing
from tilseg.errors import DamageError
from tilseg.journal import BlockRecord, Journal
from tilseg.plan import Plan
from tilseg.sinks.zarr import MaskStore


def recover(
    result: Path,
    path: Path,
    plan: Plan,
    journal: Journal,
    *,
    keep_bad: bool,
    progress: Callable[[int, int], None],
) -> None:
    """Make the store at `path` ready for more blocks, and `journal` name only those that hold.

    result: folder of the result, emptied of all but the store, if that is in it.
    keep_bad: whether blocks with tiles left out may stay. progress: called with (pixels read,
    pixels to read); what it raises ends the recovery, which may begin again.

    Raises OutputError E-OUTPUT-WRITE.
    """
    with writing(result):
        _remove_all_but({path.name}, result)
        _strip(path, plan)
    store = MaskStore.create(path, plan.grid.shape, plan.grid.block)
    wanted = {
        index: record
        for index, record in journal.records.items()
        if index < len(plan.grid) and (keep_bad or not record.bad)
    }
    journal.records.clear()
    areas = {index: plan.grid.block_at(index).write.size.area for index in wanted}
    done, total = 0, sum(areas.values())
    for index, record in wanted.items():
        if holds(store, plan, record):
            journal.records[index] = record
        done += areas[index]
        progress(done, total)


def holds(store: MaskStore, plan: Plan, record: BlockRecord) -> bool:
    """Whether a block is there and reads back as its record says."""
    window = plan.grid.block_at(record.index).write
    row, col = divmod(record.index, plan.grid.block_counts.cols)
    shard = store.path / "0" / "c" / str(row) / str(col)
    try:
        if not shard.is_file():
            # A network disk may show this machine an old directory until it is listed.
            os.listdir(shard.parent)
        # Without its file a block reads as nodata, which may well be what it should hold.
        return shard.is_file() and store.block_crc(window) == record.crc
    except (DamageError, FileNotFoundError):
        return False


def _strip(path: Path, plan: Plan) -> None:
    """Remove all of a store but the shards of level 0.

    The metadata is a few hundred bytes made from the plan; a torn one would be in the way.
    """
    rows, cols = plan.grid.block_counts
    shards = path / "0" / "c"
    _remove_all_but({"0"}, path)
    _remove_all_but({"c"}, path / "0")
    _remove_all_but({str(row) for row in range(rows)}, shards)
    for row in range(rows):
        _remove_all_but({str(col) for col in range(cols)}, shards / str(row))


def _remove_all_but(names: set[str], folder: Path) -> None:
    if folder.is_dir():
        for each in folder.iterdir():
            if each.name not in names:
                remove(each)
