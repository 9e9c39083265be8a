"""A file at an http or https address, read by ranges of bytes (RFC 9110, section 14).

Each answer must be of the same file: entity tag, time of change and size are compared with those of
the first. Addresses that hold a secret are refused before anything is asked of them, redirections
are not followed, and nothing is kept on a disk.
"""

from __future__ import annotations

import functools
import hashlib
import io
import re
import threading
import urllib.request
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

import urllib3

from tilseg.errors import InputError
from tilseg.names import public_address

# Small reads, as of headers, are made of these; they serve the tiles beside, too.
_BLOCK = 2**16
_BLOCKS = 64
_ENDS = 2**16
_TIMEOUT = urllib3.Timeout(connect=10, read=30)
_RETRIES = urllib3.Retry(
    total=3,
    redirect=False,
    status_forcelist=(429, 500, 502, 503, 504),
    raise_on_status=False,
    backoff_factor=0.2,
    # A server may not say that we wait for days.
    respect_retry_after_header=False,
)
_PARTIAL = 206
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Status(NamedTuple):
    """What is asked of a file: its size in bytes."""

    st_size: int


class Address:
    """The file at `url`: of a `Path`, what the readers of TIFFs use. Thread-safe.

    Raises InputError E-INPUT-ADDRESS, here for an address that is not taken, and in every read for
    a server that can't be reached, does not have the file, or does not serve parts of it;
    E-INPUT-CHANGED in a read of a file that is no longer what it was at the first.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._version: dict[str, Any] | None = None
        try:
            parts = urlsplit(url)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            sound = False
        if not sound or not url.isprintable():
            raise self._refuse("is no http or https address")
        if parts.username is not None or parts.query or parts.fragment:
            # It would stand in the receipt, in logs and in lists of processes.
            raise self._refuse(
                "has a user name or something after the path, which may be secret: only an address "
                "without these is read"
            )

    def __str__(self) -> str:
        return self.url

    def absolute(self) -> Address:
        return self

    def stat(self) -> Status:
        if self._version is None:
            self.read(0, 1)
        assert self._version is not None
        return Status(self._version["size"])

    def open(self, mode: str = "rb") -> BinaryIO:
        assert mode == "rb"
        return io.BufferedReader(_Raw(self))

    def read(self, place: int, count: int) -> bytes:
        """`count` bytes from `place`, fewer at the end of the file."""
        if self._version is not None:
            count = max(0, min(count, self._version["size"] - place))
        if count > _BLOCK:
            return self._fetch(place, count)
        numbers = range(place // _BLOCK, (place + count - 1) // _BLOCK + 1)
        joined = b"".join(self._block(number) for number in numbers)
        return joined[place % _BLOCK :][:count]

    def identity(self) -> dict[str, Any]:
        """The file as it is now: address, size, entity tag, time of change, hash of both ends."""
        now = Address(self.url)
        digest = hashlib.sha256(now.read(0, _ENDS))
        digest.update(now.read(max(0, now.stat().st_size - _ENDS), _ENDS))
        return {"path": self.url, **(now._version or {}), "sha256_ends": digest.hexdigest()}

    def _block(self, number: int) -> bytes:
        with self._lock:
            if number in self._blocks:
                self._blocks.move_to_end(number)
                return self._blocks[number]
        content = self._fetch(number * _BLOCK, _BLOCK)
        with self._lock:
            self._blocks[number] = content
            while len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
        return content

    def _fetch(self, place: int, count: int) -> bytes:
        wanted = {"Range": f"bytes={place}-{place + count - 1}", "Accept-Encoding": "identity"}
        try:
            answer = _pool(_proxy(self.url)).request(
                "GET",
                self.url,
                headers={**wanted, "User-Agent": "tilseg"},
                redirect=False,
                retries=_RETRIES,
                timeout=_TIMEOUT,
                preload_content=False,
                decode_content=False,
            )
            try:
                first, stop = self._check(answer)
                content: bytes = answer.read(count)
            finally:
                # What is left of an answer may be without end.
                answer.drain_conn() if answer.length_remaining == 0 else answer.close()
        except urllib3.exceptions.HTTPError as error:
            raise self._refuse(f"can't be read: {_reason(error)}") from error
        if first != place or len(content) != min(count, stop - first):
            raise self._refuse("its server sends other bytes than it was asked for")
        return content

    def _check(self, answer: Any) -> tuple[int, int]:
        """First byte and the one after the last of an answer that is a part of the same file."""
        found = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if answer.status != _PARTIAL or found is None:
            raise self._refuse(_refusal(answer))
        version = {
            "size": int(found[3]),
            "etag": answer.headers.get("ETag"),
            "modified": answer.headers.get("Last-Modified"),
        }
        with self._lock:
            before = self._version = self._version or version
        if version != before:
            differ = ", ".join(name for name in version if version[name] != before[name])
            raise InputError("E-INPUT-CHANGED", path=self.url, fields=differ)
        return int(found[1]), int(found[2]) + 1

    def _refuse(self, reason: str) -> InputError:
        return InputError("E-INPUT-ADDRESS", address=public_address(self.url), reason=reason)


Stored = Path | Address


class _Raw(io.RawIOBase):
    """An address as an open binary file."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place}
        base = start[whence] if whence in start else self._address.stat().st_size
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        content = self._address.read(self._place, len(buffer))
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


@functools.cache
def _pool(proxy: str | None) -> urllib3.PoolManager:
    """Connections of this process, kept open between reads."""
    return urllib3.ProxyManager(proxy, maxsize=8) if proxy else urllib3.PoolManager(maxsize=8)


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def _refusal(answer: Any) -> str:
    if 300 <= answer.status < 400:
        where = public_address(answer.headers.get("Location", "nowhere"))
        return f"redirects to {where}, which is not followed"
    if answer.status == 200:
        return "its server does not serve parts of files"
    return f"its server answers {answer.status} {answer.reason or ''}".rstrip()


def _reason(error: Exception) -> str:
    """Why a request failed, without the objects that the library names."""
    cause = getattr(error, "reason", None) or error
    return re.sub(r"^.*?<?\w+\(.*?\)>?: ", "", str(cause))
