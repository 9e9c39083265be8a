"""How each image of a batch ended: one small file each in the hidden folder .batch of the results.

Whoever has an image's lock writes its record, so that any number of machines share a folder, and
each can tell of all of them.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from tilseg.durable import writing

FOLDER = ".batch"
Status = Literal["complete", "degraded", "failed"]


@dataclass(frozen=True, slots=True)
class Record:
    """image: from the root on. output: its name in the folder of results, or from the root on.
    error, message: id and words of what failed. seconds: of its blocks and its publication.
    summary: the content of summary.json. thumbnail: a JPEG, or nothing.

    request: what was asked for, as `tilseg.batches.request` tells it. receipt: sha256 of the bytes
    of the result's receipt.
    """

    image: str
    output: str
    status: Status
    error: str = ""
    message: str = ""
    seconds: float = 0.0
    request: str = ""
    receipt: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    thumbnail: str = ""

    @property
    def picture(self) -> bytes:
        return base64.b64decode(self.thumbnail)


_NAMES = {each.name for each in fields(Record)}


class Records:
    """The records of one folder of results.

    Raises OutputError E-OUTPUT-WRITE where one can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / FOLDER

    def begin(self) -> None:
        """Make the folder of results and that of the records."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def write(self, record: Record) -> None:
        target = self._file(record.output)
        attempt = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
        with writing(target):
            try:
                attempt.write_text(json.dumps(asdict(record)))
                os.replace(attempt, target)
            finally:
                attempt.unlink(missing_ok=True)

    def of(self, output: Path) -> Record | None:
        """The record of a result; None where there is none."""
        return _read(self._file(self.name(output)))

    def name(self, output: Path) -> str:
        """What records call a result: the same wherever the folder is mounted or moved to."""
        folder = self.folder.parent
        return str(output.relative_to(folder) if output.is_relative_to(folder) else output)

    def output(self, record: Record) -> Path:
        """Where the result of a record is."""
        return self.folder.parent / record.output

    def __iter__(self) -> Iterator[Record]:
        yield from self.but(())

    def but(self, names: Iterable[str]) -> Iterator[Record]:
        """All records but those of the results with these names, which are not read."""
        left_out = set(map(self._file, names))
        for path in sorted(set(self.folder.glob("*.json")) - left_out):
            record = _read(path)
            if record is not None:
                yield record

    def _file(self, name: str) -> Path:
        return self.folder / f"{hashlib.sha256(os.fsencode(name)).hexdigest()[:20]}.json"


def _read(path: Path) -> Record | None:
    # Nothing depends on a record but time: without one, the result itself is asked.
    with contextlib.suppress(OSError, ValueError, TypeError):
        content = json.loads(path.read_bytes())
        return Record(**{name: content[name] for name in _NAMES & set(content)})
    return None


def hashed(content: Any) -> str:
    """A digest of plain JSON values."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=repr).encode()).hexdigest()
