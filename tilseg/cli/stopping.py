"""Asking a run to stop: by a signal, or because its time is spent."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import NoReturn

from tilseg.errors import Stopped

_SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")


class StopRequest:
    """True once a signal has come or `seconds` have passed; the second signal is immediate.

    signal: the number of the signal that came, or None.
    Handlers are installed while it is entered, only by the command: a library leaves its
    process's signals alone.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self.signal: int | None = None
        self._before: dict[int, object] = {}

    def __call__(self) -> bool:
        late = self._deadline is not None and time.monotonic() > self._deadline
        return late or self.signal is not None

    def __enter__(self) -> StopRequest:
        for name in _SIGNALS:
            if number := getattr(signal, name, None):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() returned

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            # The second came before the first was heard.
            die_by(number)
        self.signal = number
        for each in self._before:
            signal.signal(each, signal.SIG_DFL)


@contextmanager
def stopping(seconds: float | None = None) -> Iterator[StopRequest]:
    """A `StopRequest`; where a signal stopped what is inside, the process ends by that signal."""
    with StopRequest(seconds) as stop:
        try:
            yield stop
        except Stopped as error:
            if stop.signal is None:
                raise
            print(error.message, file=sys.stderr, flush=True)
            die_by(stop.signal)


def die_by(number: int) -> NoReturn:
    """End this process by a signal's default action."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise AssertionError("a default signal action returned")
