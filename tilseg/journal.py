"""The journal of a run: one line for every block whose shard is in place.

Only the driver writes it. A line is JSON, a space and the CRC-32 of the JSON, so that a line
torn by a crash is recognised; what follows the first bad line is cut off and computed again.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tilseg.errors import OutputError

_SYNC_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """What a finished block reports: under a kilobyte, the only thing that travels.

    crc: CRC-32 of the block's labels. counts: ((class value, pixels), ...), nodata included.
    seconds: spent reading, predicting and writing.
    """

    index: int
    crc: int
    counts: tuple[tuple[int, int], ...]
    seconds: tuple[float, float, float]


class Journal:
    """Append-only record of finished blocks; `records` holds what it knows, by block index."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[int, BlockRecord] = {}
        good = self._load()
        self._file = path.open("ab")
        # A torn tail would glue itself to the next line.
        self._file.truncate(good)
        self._synced = time.monotonic()

    def _load(self) -> int:
        """Read what is there; returns the number of good bytes."""
        if not self.path.exists():
            return 0
        good = 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            record = _decode(line)
            if record is None:
                break
            self.records[record.index] = record
            good += len(line)
        return good

    def append(self, record: BlockRecord) -> None:
        """Note a block whose files are already in place; on disk within two seconds.

        Raises OutputError E-OUTPUT-WRITE.
        """
        self.records[record.index] = record
        try:
            self._file.write(_encode(record))
            self._file.flush()
        except OSError as error:
            raise OutputError("E-OUTPUT-WRITE", path=self.path, reason=error.strerror) from error
        if time.monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Force every line to the disk."""
        os.fdatasync(self._file.fileno())
        self._synced = time.monotonic()

    def close(self) -> None:
        self.sync()
        self._file.close()


def _encode(record: BlockRecord) -> bytes:
    body = json.dumps(asdict(record), separators=(",", ":")).encode()
    return body + b" %08x\n" % zlib.crc32(body)


def _decode(line: bytes) -> BlockRecord | None:
    """The record of one line, or None if it is torn or damaged."""
    body, space, check = line.rpartition(b" ")
    if not space or check != b"%08x\n" % zlib.crc32(body):
        return None
    content: dict[str, Any] = json.loads(body)
    content["counts"] = tuple(tuple(pair) for pair in content["counts"])
    content["seconds"] = tuple(content["seconds"])
    return BlockRecord(**content)
