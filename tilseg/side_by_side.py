"""The same work on many things, as many at once as there are CPUs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tilseg.budget import usable_cpus

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Of memory that work under way takes together, unless one alone takes more.
_BYTES = 64 * 2**20


def side_by_side(
    work: Callable[[_Item], _Result], items: Iterable[_Item], bytes_each: int
) -> Iterator[_Result]:
    """What `work`, which lets go of Python's lock, makes of each item, in their order.

    Items are taken as threads come free. bytes_each: what the work on one holds in memory, which
    bounds how many are under way. Raises what `work` raises, after what is under way has ended.
    """
    at_once = max(1, min(usable_cpus(), _BYTES // bytes_each))
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(at_once) as threads:
        try:
            for item in items:
                waiting.append(threads.submit(work, item))
                if len(waiting) > at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
