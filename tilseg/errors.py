"""Every error tilseg raises on purpose, in one tree and one catalogue.

    TilsegError            exit 1   a bug of ours, unless a subclass says otherwise
    ├── UsageError         exit 2   ValueError       an option or argument that can't be
    ├── InputError         exit 4   ValueError       the image (or a mask) is bad or changed
    ├── BlocksFailed       exit 5   RuntimeError     some blocks failed, nothing was published
    ├── ModelError         exit 6   ValueError       the model is bad, untrusted or does not fit
    ├── OutputError        exit 7   OSError          the output or its disk
    ├── ResourceError      exit 8   RuntimeError     memory, or CUDA where there is none
    ├── ExistsError        exit 10  FileExistsError  another result or another run is in the way
    ├── LockedError        exit 11  RuntimeError     another driver owns the output
    ├── DamageError        exit 12  ValueError       verify found damage
    ├── BatchFailed        exit 13  RuntimeError     some images of a batch failed, the others are done
    └── Stopped            exit 75  RuntimeError     the time budget is spent; resumable

An error is raised with its id and the facts of the case; the words live in catalogue.py, in
two halves, what is wrong and what to do:

    raise UsageError("E-TILE-STEP", tile=388, stride=16, legal="384 or 400")

and prints as one line: tile 388 is not a multiple of the model's stride 16; use 384 or 400.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple

from tilseg import catalogue


class TilsegError(Exception):
    """Base of the tree. `id` names the catalogue entry, `facts` fill its words."""

    exit_code = 1

    def __init__(self, id: str, **facts: Any) -> None:
        self.id = id
        self.facts = facts
        assert type(self) is CATALOGUE[id].kind, f"{id} is no {type(self).__name__}"
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """What is wrong and what to do, with the facts of this case filled in: one line."""
        return f"{self.problem}; {self.advice}"

    @property
    def problem(self) -> str:
        """What came and what is allowed, the first half of the message."""
        return self._filled(CATALOGUE[self.id].says)

    @property
    def advice(self) -> str:
        """What to do, the second half of the message."""
        return self._filled(CATALOGUE[self.id].do)

    def _filled(self, words: str) -> str:
        return printable(words.format_map(_Facts(self.facts)))

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> Any:
        # Keyword-only construction does not survive pickling by itself, and these
        # errors cross process borders.
        return _rebuild, (type(self), self.id, self.facts)


def _rebuild(kind: type[TilsegError], id: str, facts: dict[str, Any]) -> TilsegError:
    return kind(id, **facts)


_LONGEST = 600


class _Facts(dict[str, Any]):
    """Facts cut to what a line can hold: some come from files, where a name may be a book."""

    def __getitem__(self, name: str) -> Any:
        fact = super().__getitem__(name)
        text = str(fact)
        half = _LONGEST // 2
        return f"{text[:half]} ... {text[-half:]}" if len(text) > _LONGEST else fact


def printable(text: str) -> str:
    """`text` as one line a terminal can show, whatever a file has put into it.

    White space becomes single spaces; what else does not print, such as the escape character
    that begins commands to a terminal, is spelled out.
    """
    line = " ".join(text.split())
    if line.isprintable():
        return line
    spelled = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    return "".join(spelled)


class Entry(NamedTuple):
    """One line of the catalogue: the class that is raised, what is wrong, and what to do."""

    kind: type[TilsegError]
    says: str
    do: str


class UsageError(TilsegError, ValueError):
    exit_code = 2


class InputError(TilsegError, ValueError):
    exit_code = 4


class BlocksFailed(TilsegError, RuntimeError):
    exit_code = 5


class ModelError(TilsegError, ValueError):
    exit_code = 6


class OutputError(TilsegError, OSError):
    exit_code = 7


class ResourceError(TilsegError, RuntimeError):
    exit_code = 8


class ExistsError(TilsegError, FileExistsError):
    exit_code = 10


class LockedError(TilsegError, RuntimeError):
    exit_code = 11


class DamageError(TilsegError, ValueError):
    exit_code = 12


class BatchFailed(TilsegError, RuntimeError):
    exit_code = 13


class Stopped(TilsegError, RuntimeError):
    exit_code = 75


def nearest(word: str, known: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` for the known name closest to `word`, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


CATALOGUE: dict[str, Entry] = {
    id: Entry(kind, *words)
    for kind, table in (
        (TilsegError, catalogue.BUGS),
        (UsageError, catalogue.USAGE),
        (InputError, catalogue.INPUT),
        (BlocksFailed, catalogue.BLOCKS),
        (ModelError, catalogue.MODEL),
        (OutputError, catalogue.OUTPUT),
        (ResourceError, catalogue.RESOURCES),
        (ExistsError, catalogue.EXISTS),
        (LockedError, catalogue.LOCKED),
        (DamageError, catalogue.DAMAGE),
        (BatchFailed, catalogue.BATCH),
        (Stopped, catalogue.STOPPED),
    )
    for id, words in table.items()
}
