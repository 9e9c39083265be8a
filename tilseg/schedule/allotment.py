"""Which block goes to which worker: neighbours to one, and nobody waits for a slow one.

Decides, and does nothing: the clock and the workers are told.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

# For each thread of a worker: one that it computes, and one that is there when it has done so.
_IN_HAND_PER_THREAD = 2
# A block that was in hand at this many deaths of a worker is not tried again in company.
_DEATHS = 2
# A block that takes this many times as long as others is computed elsewhere too.
_LATE = 2.0


@dataclass(eq=False, slots=True)
class Hand:
    """A block in the hands of a worker. began: when it was the worker's turn to compute it.

    moved_from: the hand that this one is in place of, and that need not be computed any more.
    """

    index: int
    worker: str
    began: float
    moved_from: Hand | None = None


class Allotment:
    """Hands out blocks one by one, and knows what is in hand where.

    Each worker has a stretch of neighbours, which share what a reader keeps of the image. One
    that has come to its end takes the back half of the longest that is left; then blocks that
    wait at others; then a copy of what others have computed for far too long. Copies are
    harmless, for whoever stores a block stores the same bytes.

    blocks: in raster order. most: in hand at once, of all workers together; None for two for
    each of their threads.
    """

    def __init__(self, blocks: Iterable[int], now: float, most: int | None = None) -> None:
        self._blocks = list(blocks)
        self._stretches: dict[str, range] = {"": range(len(self._blocks))}
        self._most = most
        self._threads: dict[str, int] = {}
        self._hands: defaultdict[str, list[Hand]] = defaultdict(list)
        self._copies: defaultdict[int, list[Hand]] = defaultdict(list)
        # Seconds of the last block that each worker has done.
        self._took: defaultdict[str, float] = defaultdict(float)
        self._deaths: Counter[int] = Counter()
        self._again: list[int] = []
        self._start = now
        self._done = 0

    def meet(self, threads: Mapping[str, int]) -> tuple[list[Hand], list[int]]:
        """Tell which workers there are now, and the threads of each.

        Returns the hands that were lost with workers that are gone, and the blocks of those that
        seem to be what kills them. The other blocks are handed out again.
        """
        gone = self._hands.keys() - threads.keys()
        lost = [hand for worker in gone for hand in self._hands.pop(worker)]
        self._threads = dict(threads)
        killers = []
        for hand in lost:
            self._deaths[hand.index] += 1
            self._forget_copy(hand)
            if hand.index in self._copies:
                continue
            if self._deaths[hand.index] < _DEATHS:
                self._again.append(hand.index)
            else:
                killers.append(hand.index)
        return lost, killers

    def left(self) -> int:
        """Blocks that are not done, in hand or not."""
        waiting = sum(map(len, self._stretches.values()))
        return len(self._copies) + len(self._again) + waiting

    def hand_out(self, now: float) -> Iterator[Hand]:
        """Hands that are to be given to their workers, until all have enough."""
        given = True
        while given:
            given = False
            for worker, threads in self._threads.items():
                room = len(self._hands[worker]) < threads * _IN_HAND_PER_THREAD
                if room and self._has_room() and (index := self._of_stretch(worker)) is not None:
                    given = True
                    yield self._give(Hand(index, worker, now))
        while self._has_room() and (idle := self._idle()):
            hand = self._moved(idle[0], now) or self._copied(idle, now)
            if hand is None:
                return
            yield hand

    def take_back(self, hand: Hand, now: float, *, done: bool) -> list[Hand]:
        """A hand has come back, or never will; returns the other copies of its block, which
        when it is `done` are wanted no more."""
        self._drop(hand, now)
        others = list(self._copies.get(hand.index, ()))
        if done:
            self._took[hand.worker] = now - hand.began
            self._done += 1
            for other in others:
                self._drop(other, now)
        return others

    def _has_room(self) -> bool:
        return self._most is None or sum(map(len, self._hands.values())) < self._most

    def _idle(self) -> list[str]:
        """Workers that have a thread with nothing to do."""
        return [one for one, count in self._threads.items() if len(self._hands[one]) < count]

    def _give(self, hand: Hand) -> Hand:
        self._hands[hand.worker].append(hand)
        self._copies[hand.index].append(hand)
        return hand

    def _drop(self, hand: Hand, now: float) -> None:
        queue = self._hands[hand.worker]
        threads = self._threads[hand.worker]
        if queue.index(hand) < threads < len(queue):
            queue[threads].began = now
        queue.remove(hand)
        self._forget_copy(hand)

    def _forget_copy(self, hand: Hand) -> None:
        self._copies[hand.index].remove(hand)
        if not self._copies[hand.index]:
            del self._copies[hand.index]

    def _of_stretch(self, worker: str) -> int | None:
        if self._again:
            return self._again.pop()
        mine = self._stretches.get(worker, range(0))
        if not mine:
            longest = max(self._stretches, key=lambda name: len(self._stretches[name]))
            other = self._stretches[longest]
            if not other:
                return None
            # Of a stretch that is nobody's, or of one block, all.
            middle = len(other) // 2 if longest in self._threads else 0
            self._stretches[longest], mine = other[:middle], other[middle:]
        self._stretches[worker] = mine[1:]
        return self._blocks[mine[0]]

    def _moved(self, worker: str, now: float) -> Hand | None:
        """The last block that waits at the worker with the most that wait, for `worker`."""
        waiting = {
            other: len(self._hands[other]) - threads for other, threads in self._threads.items()
        }
        longest = max(waiting, key=lambda name: waiting[name])
        if waiting[longest] < 1:
            return None
        hand = self._hands[longest][-1]
        moved = self._give(Hand(hand.index, worker, now, hand))
        self._drop(hand, now)
        return moved

    def _copied(self, idle: list[str], now: float) -> Hand | None:
        """A copy of the block that another worker has computed for longest, if it is late."""
        if not self._done:
            return None
        usual = (now - self._start) * sum(self._threads.values()) / self._done
        late = [
            hand
            for worker, threads in self._threads.items()
            for hand in self._hands[worker][:threads]
            if len(self._copies[hand.index]) == 1 and self._is_late(hand, now, _LATE * usual)
        ]
        for hand in sorted(late, key=lambda hand: hand.began):
            for worker in idle:
                if worker != hand.worker:
                    return self._give(Hand(hand.index, worker, now))
        return None

    def _is_late(self, hand: Hand, now: float, patience: float) -> bool:
        """Whether a block has been computed for longer than that, or will be from now on."""
        spent = now - hand.began
        return spent > patience or self._took[hand.worker] - spent > patience
