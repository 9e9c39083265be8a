"""Pages in a real browser that are watched: what they may not do is an assertion."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

_ON_THIS_MACHINE = ("127.0.0.1", "localhost")
_IN_THE_PAGE = ("about", "blob", "data", "file")


@contextmanager
def watched(browser: Browser, width: int = 1280, height: int = 800) -> Iterator[Page]:
    """An empty page. When it is closed, what was opened in it must have written no error to the
    console and asked nothing of any other machine."""
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(20_000)
    page = context.new_page()
    errors: list[str] = []
    requests: list[str] = []
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    try:
        yield page
    finally:
        context.close()
    assert not [url for url in requests if not _stays(url)], requests
    assert not errors, errors


def _stays(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in _IN_THE_PAGE or parts.hostname in _ON_THIS_MACHINE
