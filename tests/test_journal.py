"""The journal survives being torn anywhere."""

from __future__ import annotations

import pytest

from tilseg.journal import BlockRecord, Journal


def _record(index: int) -> BlockRecord:
    return BlockRecord(index, 4_000_000_000 + index, ((0, 17), (255, index)), (0.1, 2.5, 0.01))


def _write(path, count):
    journal = Journal(path)
    for index in range(count):
        journal.append(_record(index))
    journal.close()


def test_what_was_written_is_read(tmp_path):
    _write(tmp_path / "j", 5)
    assert Journal(tmp_path / "j").records == {index: _record(index) for index in range(5)}


def test_any_tear_loses_only_the_torn_line(tmp_path):
    path = tmp_path / "j"
    _write(path, 3)
    whole = path.read_bytes()
    ends = [position + 1 for position, byte in enumerate(whole) if byte == ord("\n")]
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        journal = Journal(path)
        assert list(journal.records) == list(range(sum(end <= cut for end in ends)))
        journal.append(_record(7))
        journal.close()
        assert 7 in Journal(path).records


@pytest.mark.parametrize("position", [3, 40, 75])
def test_a_flipped_bit_ends_the_journal_there(tmp_path, position):
    path = tmp_path / "j"
    _write(path, 3)
    damaged = bytearray(path.read_bytes())
    damaged[position] ^= 4
    path.write_bytes(damaged)
    assert Journal(path).records == {}


def test_the_last_word_on_a_block_counts(tmp_path):
    path = tmp_path / "j"
    _write(path, 1)
    journal = Journal(path)
    again = BlockRecord(0, 5, ((1, 17),), (0.0, 0.0, 0.0))
    journal.append(again)
    journal.close()
    assert Journal(path).records == {0: again}
