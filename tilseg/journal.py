"""The journal of a run: one line for every block begun, one for every block in place.

Only the driver writes it; where several share a run, each has its own. A line is JSON, a space and the CRC-32 of the JSON, so that a line
torn by a crash is recognised; what follows the first bad line is cut off and computed again.
A driver that ends in any way but by being killed says so: what was under way then killed no one.
"""

from __future__ import annotations

import errno
import json
import os
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from tilseg.durable import writing
from tilseg.window import Window

_SYNC_SECONDS = 2.0
# Of a line, behind its text: a space, eight digits and the end.
_CHECK_BYTES = 10

Skipped = Literal["roi", "tissue", "nodata"]

# Why a tile is bad whose pixels nobody else should read either.
DIED = "its process died whenever it was computed"


@dataclass(frozen=True, slots=True)
class BadTile:
    """A tile that could not be computed: the pixels it owns, and why, in one line."""

    window: Window
    reason: str


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """What a finished block reports: under a kilobyte, the only thing that travels.

    crcs: CRC-32 of the block's labels and, where they are kept, of its probabilities and its
    table of regions. counts: ((class value, pixels), ...), nodata included.
    seconds: spent reading, predicting, and measuring and writing. bad: tiles left as nodata
    because they could not be computed. areas: of each class, where pixels differ in area.
    skipped: why the network was asked for none of its pixels: they lie outside the region of
    interest, show no tissue, or hold no data.
    """

    index: int
    crcs: tuple[int, ...]
    counts: tuple[tuple[int, int], ...]
    seconds: tuple[float, float, float]
    bad: tuple[BadTile, ...] = ()
    areas: tuple[float, ...] = ()
    skipped: Skipped | None = None


_records = TypeAdapter(BlockRecord)


class Records(Mapping[int, BlockRecord]):
    """Finished blocks by index, in the order in which they were first noted, or sorted.

    Kept as the text that the journal has of each, and made anew whenever one is asked for: a
    million of them take half a gigabyte less than as objects.
    """

    def __init__(self) -> None:
        self._texts: dict[int, bytes] = {}

    def __getitem__(self, index: int) -> BlockRecord:
        return _records.validate_json(self._texts[index])

    def __iter__(self) -> Iterator[int]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __contains__(self, index: object) -> bool:
        return index in self._texts

    def note(self, index: int, text: bytes) -> None:
        """Take `text` for what is known of a block."""
        self._texts[index] = text

    def sort(self) -> None:
        """In raster order, however they came."""
        self._texts = dict(sorted(self._texts.items()))

    def keep(self, indices: Iterable[int]) -> None:
        """Forget all but these."""
        self._texts = {index: self._texts[index] for index in indices}


class Journal:
    """Append-only record of the blocks of a run; every method that writes raises OutputError
    E-OUTPUT-WRITE where the disk refuses.

    records: finished blocks by index. deaths: how often a block was under way when its driver
    died, by index. others: journals of the same run, whose blocks count too.
    """

    def __init__(self, path: Path, others: Iterable[Path] = ()) -> None:
        self.path = path
        self.records = Records()
        self.deaths: Counter[int] = Counter()
        for other in others:
            _load(other, self.records, self.deaths)
        self._good = _load(path, self.records, self.deaths)
        with writing(path):
            # Unbuffered: a line that the disk refused must not turn up again on closing.
            self._file = path.open("ab", buffering=0)
            # A torn tail would glue itself to the next line.
            self._file.truncate(self._good)
        self._synced = time.monotonic()

    def begin_driver(self) -> None:
        """Note that a driver starts; what the last one had under way, it died with."""
        self._write(_text({"driver": os.getpid()}))

    def begin(self, index: int) -> None:
        """Note that a block is under way."""
        self._write(_text({"begun": index}))

    def append(self, record: BlockRecord) -> None:
        """Note a block whose files are already in place; on disk within two seconds."""
        text = _text(_records.dump_python(record, mode="json"))
        self.records.note(record.index, text)
        self._write(text)
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()

    def _write(self, text: bytes) -> None:
        line = text + b" %08x\n" % zlib.crc32(text)
        with writing(self.path):
            if self._file.write(line) != len(line):
                # The disk took a part; the system says why only to the next write.
                self._file.truncate(self._good)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._good += len(line)

    def sync(self) -> None:
        """Force every line to the disk."""
        with writing(self.path):
            os.fsync(self._file.fileno())
        self._synced = time.monotonic()

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        """Note that this driver ends by itself, and force every line to the disk."""
        try:
            self._write(_text({"ended": os.getpid()}))
            self.sync()
        finally:
            self._file.close()


def _text(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Text and content of the lines of a journal, up to the first that is torn or damaged."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        # It goes with the workspace when another driver publishes.
        return
    with file:
        for line in file:
            text, space, check = line.rpartition(b" ")
            if not space or check != b"%08x\n" % zlib.crc32(text):
                return
            yield text, json.loads(text)


def _load(path: Path, records: Records, deaths: Counter[int]) -> int:
    """Add what a journal says to `records` and `deaths`; returns the number of good bytes."""
    good = 0
    under_way: set[int] = set()
    for text, content in _lines(path):
        good += len(text) + _CHECK_BYTES
        if "driver" in content:
            deaths.update(under_way)
            under_way.clear()
        elif "ended" in content:
            under_way.clear()
        elif "begun" in content:
            under_way.add(content["begun"])
        else:
            records.note(content["index"], text)
            under_way.discard(content["index"])
    deaths.update(under_way)
    return good


def finished_blocks(paths: Iterable[Path]) -> set[int]:
    """The blocks that journals name, which their drivers may be writing at the moment."""
    return {content["index"] for path in paths for _, content in _lines(path) if "index" in content}
