"""What each address of the page is answered with; the whole list of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from tilseg.view.session import Session

_STATIC = {
    "index.html": "text/html; charset=utf-8",
    "view.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "openseadragon.min.js": "text/javascript; charset=utf-8",
    "main.js": "text/javascript; charset=utf-8",
    "layers.js": "text/javascript; charset=utf-8",
    "panel.js": "text/javascript; charset=utf-8",
    "measures.js": "text/javascript; charset=utf-8",
    "table.js": "text/javascript; charset=utf-8",
}
_TILE = re.compile(r"/tiles/(image|mask)/(\d{1,2})/(\d{1,7})_(\d{1,7})\.png")
_PAGE_ROWS = 100
# Longer than any that is asked for; Python takes its time with numbers of millions of digits.
_LONGEST = 2000


@dataclass(frozen=True, slots=True)
class Answer:
    """The body of an answer and its media type."""

    body: bytes
    kind: str


def static_files() -> dict[str, Answer]:
    """The files of the page by path; there are no others."""
    folder = files("tilseg.view") / "static"
    found = {
        f"/{name}": Answer((folder / name).read_bytes(), kind) for name, kind in _STATIC.items()
    }
    found["/"] = found.pop("/index.html")
    return found


def answer(session: Session, path: str, query: Mapping[str, str]) -> Answer | None:
    """The answer to an address below the page's; None where there is nothing.

    Raises ValueError or KeyError for a query that is none.
    """
    if any(len(value) > _LONGEST for value in query.values()):
        raise ValueError("a value is too long")
    if found := _TILE.fullmatch(path):
        return _tile(session, found[1], (int(found[2]), int(found[3]), int(found[4])), query)
    if path not in _ASKED:
        return None
    content = _ASKED[path](session, query)
    if content is None:
        return None
    return Answer(json.dumps(content, allow_nan=False).encode(), "application/json")


def _tile(
    session: Session, layer: str, place: tuple[int, int, int], query: Mapping[str, str]
) -> Answer | None:
    if layer == "image":
        png = session.image_tile(*place)
    else:
        shown = {_number(value) for value in query.get("show", "").split(",") if value}
        png = session.mask_tile(*place, shown, "outlines" in query)
    return None if png is None else Answer(png, "image/png")


def _rows(session: Session, query: Mapping[str, str]) -> Any:
    around = _number(query["around"]) if "around" in query else None
    start = _number(query.get("start", "0"))
    return session.page(query["by"], "down" in query, start, _PAGE_ROWS, around)


def _number(text: str) -> int:
    if not re.fullmatch(r"\d{1,12}", text):
        raise ValueError(f"{text!r} is no number")
    return int(text)


def _position(text: str) -> float:
    if not re.fullmatch(r"-?\d{1,12}(\.\d{1,6})?", text):
        raise ValueError(f"{text!r} is no position")
    return float(text)


_ASKED: dict[str, Callable[[Session, Mapping[str, str]], Any]] = {
    "/about.json": lambda session, _: session.about(),
    "/state.json": lambda session, _: session.state(),
    "/at.json": lambda session, query: session.at(_position(query["row"]), _position(query["col"])),
    "/region.json": lambda session, query: session.region(_number(query["label"])),
    "/regions.json": _rows,
}
