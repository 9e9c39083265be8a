"""`batch.csv`: a line for every image, with what became of it and the areas of its classes."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilseg.batches.naming import BatchImage
from tilseg.batches.record import Record, Records

TABLE = "batch.csv"
_HEADS = (
    "image",
    "result",
    "status",
    "error",
    "message",
    "seconds",
    "width",
    "height",
    "area_unit",
)
# What became of an image that has no record yet.
WAITING = "waiting"
ELSEWHERE = "elsewhere"


@dataclass(frozen=True, slots=True)
class Line:
    """An image of a batch and what is known of it; status is that of `record`, if there is one."""

    image: str
    output: Path
    status: str
    message: str
    record: Record | None

    @property
    def classes(self) -> list[dict[str, Any]]:
        """By class, as in summary.json."""
        found: list[dict[str, Any]] = self.record.summary.get("classes", []) if self.record else []
        return found


def lines(
    images: Iterable[BatchImage], records: Records, held: Mapping[Path, str]
) -> Iterator[Line]:
    """The images of this batch, then others whose results the folder holds.

    held: results that others are at work on, and who.
    """
    seen = set()
    for image in images:
        seen.add(records.name(image.output))
        record = records.of(image.output)
        if image.output in held:
            yield Line(image.image, image.output, ELSEWHERE, held[image.output], None)
        elif record is None or record.image != image.image or _is_gone(record, image.output):
            yield Line(image.image, image.output, WAITING, "", None)
        else:
            yield Line(image.image, image.output, record.status, record.message, record)
    for record in records.but(seen):
        output = records.output(record)
        if record.status != "failed" and not _is_gone(record, output):
            yield Line(record.image, output, record.status, record.message, record)


def _is_gone(record: Record, output: Path) -> bool:
    """Whether somebody has removed the result that a record tells of."""
    return record.status != "failed" and not output.exists()


def table_text(every: Callable[[], Iterable[Line]], records: Records) -> Iterator[str]:
    """The file line by line; `every` is asked twice, for its columns and for its lines."""
    names = list(dict.fromkeys(one["name"] for line in every() for one in line.classes))
    kinds = ("area", "fraction", "regions")
    yield _row([*_HEADS, *(f"{name} {kind}" for name in names for kind in kinds)])
    for line in every():
        by_name = {one["name"]: one for one in line.classes}
        summary = line.record.summary if line.record else {}
        yield _row(
            [
                line.image,
                records.name(line.output),
                line.status,
                line.record.error if line.record else "",
                line.message,
                round(line.record.seconds, 3) if line.record and summary else "",
                *(summary.get(name) for name in ("width", "height", "area_unit")),
                *(by_name.get(name, {}).get(kind) for name in names for kind in kinds),
            ]
        )


def _row(cells: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
