"""What is kept of an earlier start is what reads back as its journal says, and nothing else."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from damage import flip_bit, truncate, zero_tail
from tiny import noise, tiny_plan

from tilseg.errors import Stopped
from tilseg.journal import BadTile, BlockRecord, Journal
from tilseg.plan import TileGrid
from tilseg.receptive_field import ReceptiveField
from tilseg.resume import keep_sound, tidy
from tilseg.stores import Stores
from tilseg.window import Size, Window

GRID = TileGrid(Size(53, 67), ReceptiveField(halo=4, stride=4, offset=0), Size(12, 12), Size(2, 1))
PLAN = tiny_plan(GRID, regions=None)
LABELS = noise(*GRID.shape, bands=1)[..., 0] % 3


@pytest.fixture
def partial(tmp_path) -> Path:
    """An unfinished run with every block in place, the last of them all nodata."""
    result = tmp_path / "partial" / "result"
    result.mkdir(parents=True)
    stores = Stores.create(result, PLAN, 3)
    journal = Journal(result.parent / "journal-0.jsonl")
    for block in GRID:
        labels = LABELS[block.write.slices].copy()
        if block.index == len(GRID) - 1:
            labels[:] = 255
        crcs = stores.commit(block.write, labels, None, None)
        journal.append(BlockRecord(block.index, crcs, ((0, 1),), (0.0, 0.0, 0.0)))
    journal.close()
    return result.parent


def _recover(partial: Path, keep_bad: bool = False, progress=lambda *_: None) -> Journal:
    journal = Journal(partial / "journal-0.jsonl")
    result = partial / "result"
    tidy(result, result, PLAN)
    stores = Stores.create(result, PLAN, 3)
    keep_sound(stores, PLAN, journal, range(len(GRID)), keep_bad=keep_bad, progress=progress)
    return journal


def _shard(partial: Path, index: int) -> Path:
    row, col = divmod(index, GRID.block_counts.cols)
    return partial / "result" / "mask.zarr" / "0" / "c" / str(row) / str(col)


def test_all_that_holds_is_kept(partial):
    steps = []
    kept = _recover(partial, progress=lambda *step: steps.append(step))
    assert list(kept.records) == list(range(len(GRID)))
    assert steps[-1] == (GRID.shape.area, GRID.shape.area)


@pytest.mark.parametrize("how", [flip_bit, truncate, zero_tail, lambda path, _: path.unlink()])
@pytest.mark.parametrize("index", [0, 7, len(GRID) - 1])
def test_a_block_that_does_not_hold_is_not(partial, how, index):
    before = _shard(partial, index).read_bytes()
    how(_shard(partial, index), random.Random(index))
    kept = _recover(partial)
    # Some damage is none: a bit in padding, zeros over zeros.
    holds = _shard(partial, index).is_file() and _shard(partial, index).read_bytes() == before
    if not holds:
        assert index not in kept.records
    assert len(kept.records) >= len(GRID) - 1


def test_another_block_in_its_place_is_noticed(partial):
    _shard(partial, 3).write_bytes(_shard(partial, 4).read_bytes())
    assert set(range(len(GRID))) - set(_recover(partial).records) == {3}


def test_torn_metadata_is_made_again(partial):
    result = partial / "result"
    (result / "mask.zarr" / "zarr.json").write_text("{torn")
    (result / "mask.zarr" / "1").mkdir()
    (result / "mask.zarr" / "1" / "zarr.json").write_bytes(b"")
    (result / "mask.zarr" / "0" / "zarr.json").write_bytes(b"\0" * 50)
    assert len(_recover(partial).records) == len(GRID)
    store = Stores.open(result, PLAN).mask
    block = GRID.block_at(5).write
    np.testing.assert_array_equal(store.read(block), LABELS[block.slices])


def test_strays_are_removed_and_files_of_the_user_are_not(partial):
    zarr = partial / "result" / "mask.zarr"
    strays = [
        partial / "result" / "mask.tif",
        partial / "result" / "notes.txt",
        zarr / "0" / "junk",
        zarr / "0" / "c" / "99",
        zarr / "0" / "c" / "0" / ".0.abc.partial",
        zarr / "0" / "c" / "0" / "77",
    ]
    for stray in strays:
        stray.write_bytes(b"stray")
    outside = partial.parent / "thesis.txt"
    outside.write_text("years of work")
    assert len(_recover(partial).records) == len(GRID)
    assert not any(stray.exists() for stray in strays)
    assert outside.exists()


def test_a_file_where_a_folder_must_be_is_removed(partial):
    row = _shard(partial, 0).parent
    for each in row.iterdir():
        each.unlink()
    row.rmdir()
    row.write_text("in the way")
    kept = _recover(partial)
    assert len(kept.records) == len(GRID) - GRID.block_counts.cols
    Stores.open(partial / "result", PLAN).commit(
        GRID.block_at(0).write, LABELS[GRID.block_at(0).write.slices].copy(), None, None
    )
    assert _shard(partial, 0).is_file()


@pytest.mark.parametrize("keep_bad", [False, True])
def test_blocks_with_tiles_left_out_stay_only_where_they_may(partial, keep_bad):
    journal = Journal(partial / "journal-0.jsonl")
    bad = (BadTile(Window(0, 0, 12, 12), "can't be read"),)
    journal.append(replace(journal.records[2], bad=bad))
    journal.close()
    assert (2 in _recover(partial, keep_bad).records) == keep_bad


def test_records_of_blocks_that_are_not_are_dropped(partial):
    journal = Journal(partial / "journal-0.jsonl")
    journal.append(replace(journal.records[2], index=len(GRID)))
    journal.close()
    assert list(_recover(partial).records) == list(range(len(GRID)))


def test_stopped_in_the_middle_it_has_lost_nothing(partial):
    def stop(done: int, total: int) -> None:
        raise Stopped("E-STOPPED", done=0, total=1)

    journal = Journal(partial / "journal-0.jsonl")
    result = partial / "result"
    stores = Stores.open(result, PLAN)
    with pytest.raises(Stopped):
        keep_sound(stores, PLAN, journal, range(len(GRID)), keep_bad=False, progress=stop)
    assert len(journal.records) == len(GRID)
    assert len(_recover(partial).records) == len(GRID)
