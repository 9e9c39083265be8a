"""A pass over blocks, with workers that do as they are told here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tilseg.journal import BlockRecord
from tilseg.schedule.stream import Pass

BLOCKS = 60


class _Future:
    """What a worker returns; None where it is done, but its worker hangs and tells of nothing."""

    def __init__(self, outcome: BlockRecord | None) -> None:
        self._outcome = outcome
        self.asked = 0

    def add_done_callback(self, call: Callable[[_Future], None]) -> None:
        call(self)

    def result(self, timeout: float) -> BlockRecord:
        self.asked += 1
        if self._outcome is None:
            raise TimeoutError(f"nothing within {timeout} s")
        return self._outcome

    def release(self) -> None:
        pass


class _Client:
    """Two workers; one of them hangs when it has done the first blocks that it is given."""

    def __init__(self) -> None:
        self.untold: list[_Future] = []

    def nthreads(self) -> dict[str, int]:
        return {"good": 1, "hangs": 1}

    def submit(
        self, _function: object, _job: object, index: int, _mask: bool, **how: Any
    ) -> _Future:
        if how["workers"] == ["good"]:
            return _Future(BlockRecord(index, (0,), ((0, 1),), (0.0, 0.0, 0.0)))
        self.untold.append(_Future(None))
        return self.untold[-1]


def test_what_a_hung_worker_does_not_tell_keeps_nobody_waiting():
    """Its blocks are computed by the other, which is asked for all of them first."""
    client = _Client()
    told: list[int] = []
    run = Pass(
        client,
        None,  # type: ignore[arg-type]  # no job is looked at
        False,
        lambda _: None,
        lambda record: told.append(record.index),
        lambda: False,
    )
    failures, copies = run.over(range(BLOCKS))
    assert sorted(told) == list(range(BLOCKS))
    assert not failures
    assert set(copies) <= set(client.untold)
    assert client.untold
    assert sum(future.asked for future in client.untold) < BLOCKS / 4
