"""A web server for one page, of this machine alone.

What keeps others out: it listens on 127.0.0.1; every request must name that host, and no page of
another origin may have sent it; the first address holds a random token, which becomes a cookie
that no script can read and no other site can send; answers may be used by the page alone. It
answers GET and HEAD, has no path that leads to a file, and writes nothing.
"""

from __future__ import annotations

import secrets
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tilseg.errors import TilsegError, UsageError
from tilseg.view.answers import Answer, answer, static_files
from tilseg.view.result import result_stamp
from tilseg.view.session import Session

_HOST = "127.0.0.1"
_CONNECTIONS = 64
# Tiles are cut by so many threads, whoever asks for how many.
_CUTTERS = 4
_SILENCE_SECONDS = 60

# The one style that OpenSeadragon 6.1.1 adds to a page.
_ITS_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    f"style-src 'self' {_ITS_STYLE}; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Nothing of an image stays behind in the browser's cache on the disk.
    "Cache-Control": "no-store",
}


class Viewer:
    """The session of an output, made anew when a run finishes or another takes its place."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._lock = threading.Lock()
        self._stamp = result_stamp(output)
        self.session = Session(output)

    def refresh(self) -> None:
        """Look whether there is another result now."""
        with self._lock:
            stamp = result_stamp(self._output)
            if stamp == self._stamp:
                return
            try:
                fresh = Session(self._output)
            except TilsegError:
                # Between two renames, or gone: what was opened is still shown.
                return
            self.session.stop()
            self.session, self._stamp = fresh, stamp

    def close(self) -> None:
        with self._lock:
            self.session.stop()


class ViewServer(ThreadingHTTPServer):
    """Serves the page of one result; `serve_forever` until `shutdown`.

    url: where the page is, with its token. Raises UsageError E-VIEW-PORT.
    """

    daemon_threads = True

    def __init__(self, output: Path, port: int = 0) -> None:
        self.viewer = Viewer(output)
        self.static = static_files()
        self.token = secrets.token_urlsafe(32)
        self.cutters = ThreadPoolExecutor(_CUTTERS)
        self._slots = threading.BoundedSemaphore(_CONNECTIONS)
        try:
            super().__init__((_HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            self.viewer.close()
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError("E-VIEW-PORT", port=port, reason=reason) from error
        self.port: int = self.server_address[1]
        self.hosts = (f"{_HOST}:{self.port}", f"localhost:{self.port}")
        # Cookies of one host are those of all its ports.
        self.cookie = f"tilseg-{self.port}={self.token}"
        self.url = f"http://{_HOST}:{self.port}/?token={self.token}"

    def server_close(self) -> None:
        super().server_close()
        self.cutters.shutdown(cancel_futures=True)
        self.viewer.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            # A browser that hangs up in the middle of an answer is no error; this is.
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "tilseg", ""
    timeout = _SILENCE_SECONDS
    # Headers and body in one piece, and at once: else the last part of an answer waits 40 ms for
    # the other side to have heard the first.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        try:
            parts = urlsplit(self.path)
            query = dict(parse_qsl(parts.query, max_num_fields=16))
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        if not self._is_for_us():
            self._refuse(HTTPStatus.FORBIDDEN)
        elif self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"):
            # What follows could be taken for the next request.
            self.close_connection = True
            self._refuse(HTTPStatus.BAD_REQUEST)
        elif self._is_known():
            self._answer(parts.path, query)
        elif parts.path == "/" and _same(query.get("token", ""), self.server.token):
            self._send(self.server.static["/"], cookie=self.server.cookie)
        else:
            self._refuse(HTTPStatus.FORBIDDEN)

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def _is_for_us(self) -> bool:
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        return host in self.server.hosts and origin in (None, f"http://{host}")

    def _is_known(self) -> bool:
        cookies = self.headers.get("Cookie", "").split(";")
        return any(_same(each.strip(), self.server.cookie) for each in cookies)

    def _answer(self, path: str, query: dict[str, str]) -> None:
        if path in self.server.static:
            self._send(self.server.static[path])
            return
        if path in ("/about.json", "/state.json"):
            self.server.viewer.refresh()
        session = self.server.viewer.session
        try:
            found = self.server.cutters.submit(answer, session, path, query).result()
        except TilsegError as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, error.problem)
        except (KeyError, ValueError):
            self._refuse(HTTPStatus.BAD_REQUEST)
        else:
            if found is None:
                self._refuse(HTTPStatus.NOT_FOUND)
            else:
                self._send(found)

    def _refuse(self, status: HTTPStatus, words: str = "") -> None:
        if status == HTTPStatus.FORBIDDEN:
            words = "open the address that `tilseg view` has printed"
        words = f"{status.value} {status.phrase}{words and ': '}{words}"
        self._send(Answer(f"{words}\n".encode(), "text/plain; charset=utf-8"), status)

    def _send(
        self, found: Answer, status: HTTPStatus = HTTPStatus.OK, cookie: str | None = None
    ) -> None:
        self.send_response(status)
        headers = {**_HEADERS, "Content-Type": found.kind, "Content-Length": str(len(found.body))}
        if cookie is not None:
            headers["Set-Cookie"] = f"{cookie}; Path=/; HttpOnly; SameSite=Strict"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(found.body)

    def send_error(self, code: int, *_: Any, **__: Any) -> None:
        """What the library refuses, without the page that it would write of the request."""
        self.close_connection = True
        self._refuse(HTTPStatus(code))

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal is for what the user has to know."""


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode(), other.encode())
