"""Which block goes to which worker, on a clock that the test turns."""

from __future__ import annotations

import heapq
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilseg.schedule.allotment import Allotment, Hand


class Floor:
    """Workers that take `speeds[worker]` seconds for a block, one at a time, in order.

    deaths: worker -> when it is gone. ready: worker -> when it comes.
    """

    def __init__(self, blocks, speeds, deaths=None, ready=None):
        self.speeds, self.deaths, self.ready = speeds, deaths or {}, ready or {}
        self.now = 0.0
        self.allotment = Allotment(blocks, 0.0)
        self.queues: dict[str, list[Hand]] = {worker: [] for worker in speeds}
        self.events: list[tuple[float, int, str]] = []
        self.order: list[tuple[int, str]] = []
        self.done: set[int] = set()
        self.killers: set[int] = set()
        self._count = 0

    def run(self) -> float:
        """Seconds until all blocks are there."""
        self._at(0.0, "")
        while self.allotment.left():
            self.now, _, worker = heapq.heappop(self.events)
            if worker:
                self._come_back(worker)
            else:
                # Somebody looks every second, as the driver does.
                lost, killers = self.allotment.meet(dict.fromkeys(self._alive(), 1))
                self.killers |= set(killers)
                for hand in lost:
                    self.queues[hand.worker].remove(hand)
                self._at(self.now + 1.0, "")
            for hand in self.allotment.hand_out(self.now):
                if hand.moved_from is not None:
                    self.queues[hand.moved_from.worker].remove(hand.moved_from)
                self._give(hand)
        return self.now

    def _alive(self):
        gone = {one for one, moment in self.deaths.items() if moment <= self.now}
        late = {one for one, moment in self.ready.items() if moment > self.now}
        return [one for one in self.speeds if one not in gone | late]

    def _at(self, moment, worker):
        self._count += 1
        heapq.heappush(self.events, (moment, self._count, worker))

    def _give(self, hand):
        worker = hand.worker
        self.queues[worker].append(hand)
        if len(self.queues[worker]) == 1:
            self._at(self.now + self.speeds[worker], worker)

    def _come_back(self, worker):
        if worker not in self._alive() or not self.queues[worker]:
            return
        hand = self.queues[worker].pop(0)
        self.order.append((hand.index, worker))
        if hand.index not in self.done:
            self.done.add(hand.index)
            for other in self.allotment.take_back(hand, self.now, done=True):
                queue = next(queue for queue in self.queues.values() if other in queue)
                # What a worker computes it computes to the end.
                if queue.index(other):
                    queue.remove(other)
        if self.queues[worker]:
            self._at(self.now + self.speeds[worker], worker)


def test_one_worker_gets_all_in_order():
    floor = Floor(range(100, 137), {"a": 1.0})
    assert floor.run() == pytest.approx(37)
    assert [index for index, _ in floor.order] == list(range(100, 137))


def test_neighbours_go_to_one_worker():
    floor = Floor(range(1000), {f"w{k}": 1.0 for k in range(7)})
    floor.run()
    breaks = 0
    for worker in floor.speeds:
        mine = [index for index, who in floor.order if who == worker]
        breaks += sum(second != first + 1 for first, second in pairwise(mine))
    # Dealt out one by one it would be nearly a thousand.
    assert breaks < 40


@pytest.mark.parametrize("blocks", [40, 100])
def test_fifty_workers_of_which_one_is_ten_times_slower(blocks):
    even = Floor(range(50 * blocks), {f"w{k}": 1.0 for k in range(50)})
    least = even.run()
    assert blocks / least > 0.95
    assert len(even.order) == 50 * blocks
    slow = Floor(range(50 * blocks), {f"w{k}": 10.0 if k == 3 else 1.0 for k in range(50)})
    # The slow one does not do its share; what it has in hand at the end others do at once.
    assert slow.run() < 1.03 * least


def test_equal_workers_compute_nothing_twice():
    floor = Floor(range(1013), {f"w{k}": 1.0 + k / 100 for k in range(10)})
    floor.run()
    assert len(floor.order) == 1013


def test_a_worker_that_hangs_does_not_hold_up_the_others():
    speeds = {"a": 1.0, "b": 1.0, "c": 1e9}
    floor = Floor(range(60), speeds)
    assert floor.run() < 40
    assert floor.done == set(range(60))


def test_what_a_worker_that_died_had_in_hand_is_given_to_others_once():
    allotment = Allotment(range(4), 0.0)
    assert allotment.meet({"a": 1}) == ([], [])
    first = list(allotment.hand_out(0.0))
    assert [hand.index for hand in first] == [0, 1]
    assert allotment.meet({"b": 1}) == (first, [])
    second = list(allotment.hand_out(1.0))
    assert {hand.index for hand in second} == {0, 1}
    # Both were there at two deaths; one of them is the killer.
    lost, killers = allotment.meet({"c": 1})
    assert (lost, set(killers)) == (second, {0, 1})
    assert [hand.index for hand in allotment.hand_out(2.0)] == [2, 3]
    assert allotment.left() == 2


def test_the_last_attempt_is_one_at_a_time():
    allotment = Allotment(range(3), 0.0, most=1)
    allotment.meet({"a": 4, "b": 4})
    for expected in range(3):
        (hand,) = allotment.hand_out(0.0)
        assert hand.index == expected
        assert allotment.take_back(hand, 1.0, done=False) == []
    assert not allotment.left()


@given(
    blocks=st.sets(st.integers(0, 500), max_size=120).map(sorted),
    speeds=st.lists(st.floats(0.01, 30), min_size=1, max_size=9),
    deaths=st.lists(st.floats(0, 60), max_size=8),
    ready=st.lists(st.floats(0, 60), max_size=8),
)
def test_every_block_is_done_or_named_whoever_comes_and_goes(blocks, speeds, deaths, ready):
    names = [f"w{k}" for k in range(len(speeds))]
    # The first one lives, or nobody would be left to do it.
    floor = Floor(
        blocks,
        dict(zip(names, speeds, strict=True)),
        dict(zip(names[1:], deaths, strict=False)),
        dict(zip(reversed(names[1:]), ready, strict=False)),
    )
    floor.run()
    assert floor.done | floor.killers == set(blocks)
    assert floor.done.isdisjoint(floor.killers)
    # A block has one copy more at most.
    assert len(floor.order) <= 2 * len(blocks)
