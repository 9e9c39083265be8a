"""A batch as one page that needs nothing else: a picture, the areas and the status of each image."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tilseg.batches.table import Line
from tilseg.pages.page import inline, render

# Pictures of more would make a page that no browser opens with ease.
_MOST_PICTURES = 2000
_MOST_CLASSES = 6
REPORT = "report.html"


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    place: str
    status: str
    size: str
    message: str
    link: str
    picture: str
    classes: tuple[str, ...]


def batch_page(every: Callable[[], Iterable[Line]], folder: Path) -> Iterator[str]:
    """The HTML in pieces. every: asked for the lines more than once."""
    counts = Counter(line.status for line in every())
    yield render(
        Path(__file__).with_name("batch.html.j2"),
        folder=folder.name,
        counts=", ".join(f"{count:,} {status}" for status, count in counts.items()),
        rows=(_row(line, folder, number) for number, line in enumerate(every())),
    )


def _row(line: Line, folder: Path, number: int) -> _Row:
    summary = line.record.summary if line.record else {}
    picture = line.record.picture if line.record and number < _MOST_PICTURES else b""
    report = line.output / REPORT
    return _Row(
        name=Path(line.image).name,
        place=str(Path(line.image).parent),
        status=line.status,
        size=f"{summary['width']:,} x {summary['height']:,} px" if summary else "",
        message=line.message,
        link=quote(os.path.relpath(report, folder)) if report.is_file() else "",
        picture=inline(picture) if picture else "",
        classes=tuple(_class_words(one, summary) for one in line.classes[:_MOST_CLASSES]),
    )


def _class_words(one: dict[str, Any], summary: dict[str, Any]) -> str:
    area = f"{one['pixels']:,} px"
    if one["area"] is not None:
        area = f"{one['area']:,.0f} {summary['area_unit']}²"
    part = "" if one["fraction"] is None else f", {100 * one['fraction']:.1f} %"
    regions = "" if one["regions"] is None else f", {one['regions']:,} regions"
    return f"{one['name']}: {area}{part}{regions}"
