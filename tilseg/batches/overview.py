"""`batch.csv` and `batch.html`: what a folder of results holds, for programs and for people."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from tilseg.batches.page import batch_page
from tilseg.batches.record import FOLDER, Records
from tilseg.batches.table import TABLE, Line, table_text
from tilseg.durable import writing
from tilseg.lock import Lock

PAGE = "batch.html"
# Tasks of an array end together, and each reads thousands of records.
_WAIT_SECONDS = 900.0


def write_overview(records: Records, every: Callable[[], Iterable[Line]]) -> None:
    """Write both files anew from `every`, which is asked for the lines more than once.

    Raises OutputError E-OUTPUT-WRITE.
    """
    folder = records.folder.parent
    # Of two machines that end together, the later one sees what the other has recorded.
    with Lock(records.folder / "overview.lock", folder / TABLE).held(wait=_WAIT_SECONDS):
        _replace(folder / TABLE, table_text(every, records))
        _replace(folder / PAGE, batch_page(every, folder))


def _replace(target: Path, parts: Iterable[str]) -> None:
    attempt = target.parent / FOLDER / f"{target.name}.{uuid.uuid4().hex}"
    with writing(target):
        try:
            with attempt.open("w", encoding="utf-8", newline="") as file:
                file.writelines(parts)
            os.replace(attempt, target)
        finally:
            attempt.unlink(missing_ok=True)
