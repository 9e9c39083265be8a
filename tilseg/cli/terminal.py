"""What people see: progress with a rate and the time left, and tables that align.

Results go to stdout, progress to stderr: a bar on a terminal, plain lines elsewhere.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from tilseg.errors import printable

if TYPE_CHECKING:
    from tilseg.verbs.run import Progress as RunProgress

_PHASES = {
    "recover": "checking",
    "predict": "segmenting",
    "pyramid": "pyramid",
    "probabilities": "probabilities",
    "tif": "mask.tif",
    "instances": "instances",
    "regions": "regions",
    "labels": "labels.zarr",
    "polygons": "polygons",
    "report": "report",
    "measure": "measuring",
    "check": "reading back",
    "compare": "comparing",
    "change": "change mask",
    "export": "change.tif",
}
_LINE_SECONDS = 10.0

_log = logging.getLogger("tilseg")


class _Rate(ProgressColumn):
    """Megapixels a second since this phase began here."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed / 1e6:.2f} Mpix/s")


class Display(logging.Handler):
    """While it is entered, what tilseg has to say, on stderr, and `bar` below it.

    columns: of the bar, which is disabled where stderr is no terminal.
    """

    def __init__(self, *columns: ProgressColumn) -> None:
        super().__init__(logging.INFO)
        self._console = Console(stderr=True)
        self.bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal)

    def __enter__(self) -> Self:
        _log.addHandler(self)
        _log.setLevel(logging.INFO)
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Rich 13 ends a disabled one with an empty line.
        if not self.bar.disable:
            self.bar.stop()
        _log.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """A line above the bar."""
        self._console.print(_text(record.getMessage()), soft_wrap=True)


class ProgressDisplay(Display):
    """Shows the progress of a run."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description:12}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            _Rate(),
            TimeRemainingColumn(),
        )
        self._tasks: dict[str, Any] = {}
        self._lines: dict[str, _Lines] = {}

    def update(self, progress: RunProgress) -> None:
        """Show one step of a run."""
        self.advance(progress.phase, progress.done, progress.total)

    def advance(self, phase: str, done: int, total: int) -> None:
        """Show that `done` of `total` pixels of a phase are done; phases appear as they begin."""
        if self.bar.disable:
            if phase not in self._lines:
                self._lines[phase] = _Lines(_PHASES[phase], done)
            self._lines[phase].update(done, total)
        elif phase not in self._tasks:
            self._tasks[phase] = self.bar.add_task(_PHASES[phase], completed=done, total=total)
        else:
            self.bar.update(self._tasks[phase], completed=done, total=total)


class _Lines:
    """One phase as plain lines, at most one in ten seconds."""

    def __init__(self, name: str, already: int) -> None:
        self._name = name
        self._already = already
        self._began = self._shown = time.monotonic()

    def update(self, done: int, total: int) -> None:
        now = time.monotonic()
        finished = done >= total and now - self._began > 2
        if now - self._shown < _LINE_SECONDS and not finished:
            return
        self._shown = now
        rate = (done - self._already) / (now - self._began)
        left = (total - done) / rate if rate else 0
        print(
            f"{self._name}: {100 * done / total:.0f} % of {total / 1e6:.1f} Mpix, "
            f"{rate / 1e6:.2f} Mpix/s, {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )


def print_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()
) -> None:
    """An aligned table on stdout; columns in `right` are flush right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, head in enumerate(heads):
        table.add_column(head, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(_text, row))
    _stdout().print(table)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Names and values, one a line, values aligned."""
    width = max(map(len, facts))
    console = _stdout()
    for name, value in facts.items():
        console.print(Text(f"{name:{width}}  ", style="bold") + _text(str(value)), soft_wrap=True)


def print_line(content: str, head: str = "") -> None:
    """A line as it is, however long, after a `head` of ours that may end in blanks."""
    _stdout().print(Text(head) + _text(content), soft_wrap=True)


def _text(content: str) -> Text:
    """What a file may have named, as text and never as markup or a command to the terminal."""
    return Text(printable(content))


def _stdout() -> Console:
    return Console(highlight=False, soft_wrap=False)
