"""Parts of a job: every number is in one of them, neighbours together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilseg.errors import UsageError
from tilseg.shard import Shard


@given(total=st.integers(0, 10_000), count=st.integers(1, 300))
def test_parts_are_a_partition_of_neighbours(total, count):
    parts = [Shard(number, count).part(total) for number in range(1, count + 1)]
    assert [index for part in parts for index in part] == list(range(total))
    lengths = {len(part) for part in parts}
    assert max(lengths) - min(lengths) <= 1


@given(number=st.integers(1, 999), more=st.integers(0, 999))
def test_it_reads_what_it_writes(number, more):
    shard = Shard(number, number + more)
    assert Shard.parse(str(shard)) == shard


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "3/", "/3", "a/b", "1/0", "-1/3", "1/3/5", ""])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(UsageError, match="K/N"):
        Shard.parse(text)
