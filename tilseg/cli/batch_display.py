"""How a batch goes, on stderr: image i of n and the time left; a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from tilseg.batches.naming import BatchImage
from tilseg.cli.terminal import Display
from tilseg.errors import printable
from tilseg.names import file_names

if TYPE_CHECKING:
    from tilseg.batches.record import Record
    from tilseg.verbs.terms import Progress as RunProgress


class BatchDisplay(Display):
    """Shows the progress of the images `todo`, of `total`; the others were done already.

    Time is shared out by the size of the files, which is known before any of them is opened.
    """

    def __init__(self, todo: Sequence[BatchImage], total: int) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(),
        )
        self._weights = {str(image.output): _weight(image) for image in todo}
        self._all = sum(self._weights.values())
        self._total = total
        self._ended = total - len(todo)
        # Of their weights: what is behind, and what of that the network had to do with.
        self._done = self._worked = 0.0
        self._began = time.monotonic()
        self._said: set[str] = set()
        self._lock = threading.Lock()
        self._now: BatchImage | None = None
        self._task = self.bar.add_task("", total=self._all)

    def emit(self, record: logging.LogRecord) -> None:
        """A line above the bar; what is said of every image is said once."""
        message = record.getMessage()
        if message not in self._said:
            self._said.add(message)
            super().emit(record)

    def begun(self, image: BatchImage) -> None:
        """The network turns to an image."""
        self._now = image
        words = f"image {self._ended + 1:,} of {self._total:,} {Path(image.image).name}"
        self.bar.update(self._task, description=printable(words))

    def progress(self, progress: RunProgress) -> None:
        """The image in the network is so far."""
        if self._now is not None and progress.total:
            part = self._weights[str(self._now.output)] * progress.done / progress.total
            self.bar.update(self._task, completed=min(self._done + part, self._all))

    def ended(self, image: BatchImage, record: Record, *, computed: bool) -> None:
        """An image is done, or has failed."""
        with self._lock:
            self._ended += 1
            weight = self._weights[str(image.output)]
            self._done += weight
            self._worked += weight if record.status != "failed" and computed else 0
            if self.bar.disable:
                print(self._line(record, computed), file=sys.stderr, flush=True)

    def _line(self, record: Record, computed: bool) -> str:
        seconds = f" in {record.seconds:.1f} s" if record.seconds and computed else ""
        found = "" if computed else "found "
        spent = time.monotonic() - self._began
        left = (self._all - self._done) / self._worked * spent if self._worked else None
        name = Path(record.image).name
        return printable(
            f"image {self._ended:,} of {self._total:,}: {name} {found}{record.status}{seconds}"
            + ("" if left is None else f", {_duration(left)} left")
        )


def _weight(image: BatchImage) -> float:
    sizes = (os.path.getsize(name) for name in file_names(image.image) if os.path.isfile(name))
    return float(max(1, sum(sizes)))


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
