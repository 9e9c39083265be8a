"""The journal survives being torn anywhere."""

from __future__ import annotations

import resource
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilseg.errors import OutputError
from tilseg.journal import BadTile, BlockRecord, Journal
from tilseg.window import Window


def _record(index: int) -> BlockRecord:
    return BlockRecord(index, (4_000_000_000 + index,), ((0, 17), (255, index)), (0.1, 2.5, 0.01))


def _write(path, count):
    journal = Journal(path)
    for index in range(count):
        journal.append(_record(index))
    journal.close()


def test_what_was_written_is_read(tmp_path):
    _write(tmp_path / "j", 5)
    assert Journal(tmp_path / "j").records == {index: _record(index) for index in range(5)}


_SECONDS = st.floats(0, 1e9)
_RECORDS = st.builds(
    BlockRecord,
    st.integers(0, 10**9),
    st.lists(st.integers(0, 2**32 - 1), max_size=3).map(tuple),
    st.lists(st.tuples(st.integers(0, 255), st.integers(1, 2**40)), max_size=4).map(tuple),
    st.tuples(_SECONDS, _SECONDS, _SECONDS),
    st.lists(st.builds(BadTile, st.just(Window(3, 5, 7, 11)), st.text()), max_size=2).map(tuple),
    # What lies beyond the bounds of a CRS has no area.
    st.lists(st.floats(allow_nan=False), max_size=3).map(tuple),
    st.sampled_from([None, "roi", "tissue", "nodata"]),
)


@settings(max_examples=20)
@given(records=st.lists(_RECORDS, max_size=20))
def test_a_journal_gives_back_what_was_noted(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("journal") / "j"
    journal = Journal(path)
    for record in records:
        journal.append(record)
    last = {record.index: record for record in records}
    assert journal.records == last
    journal.close()
    again = Journal(path).records
    assert again == last
    again.sort()
    assert list(again.items()) == sorted(last.items())


def test_a_million_blocks_take_a_driver_half_a_gigabyte(tmp_path):
    _write(tmp_path / "j", 20_000)
    tracemalloc.start()
    try:
        journal = Journal(tmp_path / "j")
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(journal.records) == 20_000
    assert held < 400 * 20_000
    # No second copy of it is in memory while it is read.
    assert peak < 500 * 20_000


def test_only_what_was_under_way_at_a_death_counts_as_one(tmp_path):
    path = tmp_path / "j"
    for _ in range(2):  # killed: nothing says that it ended
        driver = Journal(path)
        driver.begin_driver()
        for index in range(4):
            driver.begin(index)
        driver.append(_record(0))
    driver = Journal(path)
    assert driver.deaths == {1: 2, 2: 2, 3: 2}
    driver.begin_driver()
    driver.begin(1)
    driver.close()
    assert Journal(path).deaths == {1: 2, 2: 2, 3: 2}


def test_a_line_the_disk_took_half_of_is_cut_off_again(tmp_path):
    path = tmp_path / "j"
    _write(path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    journal = Journal(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
    try:
        with pytest.raises(OutputError) as caught:
            journal.append(_record(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.exit_code == 7
    journal.append(_record(2))
    journal.close()
    assert list(Journal(path).records) == [0, 2]


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
    again = BlockRecord(0, (5,), ((1, 17),), (0.0, 0.0, 0.0))
    journal.append(again)
    journal.close()
    assert Journal(path).records == {0: again}
