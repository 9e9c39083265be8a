"""What workers are told: to be as the driver is, to stop, and to forget a run."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from distributed import WorkerPlugin

from tilseg import infer
from tilseg.errors import ResourceError, TilsegError
from tilseg.infer import Job

# Workers that may die one after another while the others are being made ready.
_DEATHS_AT_START = 20
_ANSWER_SECONDS = 5.0


class StopAsked(Exception):
    """The run was asked to stop before its workers were ready."""


_CHECK = "tilseg-check"


class _Check(WorkerPlugin):  # type: ignore[misc]  # distributed is not typed
    """Makes every worker ready as it joins; one that is not as the driver is does not stay."""

    def __init__(self, job: Job, gpus: tuple[str, ...]) -> None:
        self.job = job
        self.gpus = gpus

    async def setup(self, worker: Any) -> None:
        if self.gpus:
            # Heard as long as this process has not used CUDA. Local workers are called 0, 1, ...
            mine = self.gpus[int(worker.name) % len(self.gpus)]
            os.environ["CUDA_VISIBLE_DEVICES"] = mine
        try:
            # In a thread: loading a network would stop the worker's heart for a second.
            await asyncio.to_thread(infer.worker_for, self.job)
        except TilsegError:
            worker.loop.add_callback(worker.close, reason="tilseg-check")
            raise


def register(client: Any, job: Job, gpus: tuple[str, ...], stop: Callable[[], bool]) -> None:
    """Have every worker checked, those that are there and those that come.

    A worker that dies meanwhile, for whatever reason, breaks the call; the others may have
    been checked, which they do not mind to be again.

    gpus: as of `Cluster`. Raises as `connect`.
    """
    check = _Check(job, gpus)
    for _ in range(_DEATHS_AT_START):
        if stop():
            raise StopAsked
        try:
            client.register_plugin(check, name=_CHECK)
        except TilsegError:
            # Some are OSErrors too, and say what is wrong with a worker that lives.
            raise
        except OSError:
            continue
        return
    raise ResourceError("E-WORKERS-DIED")


def leave(client: Any, job: Job, *, keep: bool) -> None:
    """Leave nothing of a run behind on workers that stay; `keep`: but the network."""

    _not_for_long(lambda: client.unregister_worker_plugin(_CHECK))
    tell(client, partial(infer.release, keep_network=keep), job)


def tell(client: Any, what: Callable[[Job], None], job: Job) -> None:
    """Have every worker call `what(job)`; one that hangs is not waited for."""
    _not_for_long(lambda: client.run(what, job, on_error="ignore"))


def _not_for_long(call: Callable[[], object]) -> None:
    """Dask waits for the answers of all workers, and takes one for dead after five minutes."""

    def ask() -> None:
        # One that dies meanwhile breaks the call, and has nothing left to do or to forget.
        with suppress(OSError):
            call()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_ANSWER_SECONDS)
