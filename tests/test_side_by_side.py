"""Work on many things at once: the order, the bound on what is under way, and errors."""

from __future__ import annotations

import threading

import pytest

from tilseg.budget import usable_cpus
from tilseg.side_by_side import side_by_side


def test_results_come_in_the_order_of_the_items():
    first = threading.Event()

    def work(item: int) -> int:
        # The first is the last to end, where there is more than one thread.
        if item == 0 and usable_cpus() > 1:
            first.wait(60)
        if item == 1:
            first.set()
        return item * item

    assert list(side_by_side(work, range(57), 1)) == [item * item for item in range(57)]


def test_no_more_are_under_way_than_their_memory_allows():
    lock, under_way, most = threading.Lock(), [0], [0]

    def work(item: int) -> int:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        with lock:
            under_way[0] -= 1
        return item

    assert list(side_by_side(work, range(23), 10**12)) == list(range(23))
    assert most == [1]


def test_items_are_taken_as_they_are_worked_on():
    taken = []

    def items():
        for item in range(1000):
            taken.append(item)
            yield item

    results = side_by_side(lambda item: item, items(), 1)
    assert next(results) == 0
    assert len(taken) <= usable_cpus() + 2
    results.close()


def test_an_error_ends_it_and_nothing_more_is_begun():
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise ValueError("no such luck")
        return item

    with pytest.raises(ValueError, match="no such luck"):
        list(side_by_side(work, range(1000), 1))
    assert len(begun) <= 3 + 2 * usable_cpus() + 2
