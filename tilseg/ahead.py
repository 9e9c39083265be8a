"""Work on many windows by a few threads, its results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_In = TypeVar("_In")
_Out = TypeVar("_Out")

THREADS = 2


def ahead(compute: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """`compute` of each item, in their order, at most `THREADS` of them computed ahead."""
    waiting: deque[Future[_Out]] = deque()
    pool = ThreadPoolExecutor(THREADS)
    try:
        for item in items:
            waiting.append(pool.submit(compute, item))
            if len(waiting) > THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
