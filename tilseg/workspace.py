"""The directories of a run: where it works, how it publishes, what it may delete.

slide.tilseg/                    the result: complete and verified, or not there
.slide.tilseg.partial/           while it runs
    plan.json                    fingerprint and frozen plan
    journal-0.jsonl              finished blocks
    result/                      becomes slide.tilseg by one rename
.slide.tilseg.old/               an overwritten result, between two renames
.slide.tilseg.trash/             a workspace that is being removed
.slide.tilseg.lock               the driver that owns all of the above

An output named slide.tif or slide.zarr is the mask alone; its receipt lies beside it, as
slide.tif.json, and is published first.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tilseg.errors import ExistsError, LockedError, OutputError

RECEIPT = "run.json"
# Suffix of an output that is one file -> the file of a result that it is.
SINGLE = {".tif": "mask.tif", ".tiff": "mask.tif", ".zarr": "mask.zarr"}


class Workspace:
    """Paths of one output and the moves between them."""

    def __init__(self, final: Path) -> None:
        self.final = final
        self.partial = final.parent / f".{final.name}.partial"
        self.result = self.partial / "result"
        self.plan = self.partial / "plan.json"
        self.journal = self.partial / "journal-0.jsonl"
        # What is published under the final name, and the receipt as it is found afterwards.
        single = SINGLE.get(final.suffix.lower())
        self.single = single
        self._ready = self.result / single if single else self.result
        self._receipt = final.with_name(f"{final.name}.json") if single else final / RECEIPT
        self._old = final.parent / f".{final.name}.old"
        self._trash = final.parent / f".{final.name}.trash"
        self._lock = final.parent / f".{final.name}.lock"

    def check_parent(self) -> None:
        """Raises OutputError E-OUTPUT-PARENT unless the output's folder can be written."""
        parent = self.final.parent
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise OutputError("E-OUTPUT-PARENT", path=self.final, parent=parent)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Own the output; raises LockedError E-LOCKED naming the driver that does.

        The operating system drops the lock when its holder dies, however it dies.
        """
        with self._take_lock() as file:
            file.truncate(0)
            started = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {started}\n")
            file.flush()
            try:
                yield
            finally:
                self._lock.unlink(missing_ok=True)

    def _take_lock(self) -> IO[str]:
        while True:
            file = self._lock.open("a+")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                owner = file.read().strip() or "unknown"
                file.close()
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    raise LockedError("E-LOCKED", path=self.final, owner=owner) from None
                raise OutputError(
                    "E-OUTPUT-WRITE", path=self._lock, reason=error.strerror
                ) from error
            # Its last owner may have removed the file between our open and our lock; a lock
            # on a removed file guards nothing.
            try:
                if os.path.samestat(os.fstat(file.fileno()), self._lock.stat()):
                    return file
            except FileNotFoundError:
                pass
            file.close()

    def repair(self) -> None:
        """Finish or undo a publication that was interrupted between its renames."""
        _remove(self._trash)
        if self.single and self._is_announced():
            self._put_in_place()
        if self._old.exists():
            if self.final.exists():
                _remove(self._old)
            else:
                self._old.rename(self.final)
        written = self.partial.exists() if self.single is None else (self.result / RECEIPT).exists()
        if self.final.exists() and written and not self._ready.exists():
            # Published, but killed before the emptied workspace was removed.
            self.discard()

    def receipt(self) -> dict[str, Any] | None:
        """The receipt of the result in place; None when there is no result.

        Raises ExistsError E-EXISTS-FOREIGN for anything tilseg did not make.
        """
        if not os.path.lexists(self.final):
            return None
        try:
            content = json.loads(self._receipt.read_text())
        except (OSError, ValueError):
            content = None
        if not isinstance(content, dict) or "fingerprint" not in content:
            raise ExistsError("E-EXISTS-FOREIGN", path=self.final)
        return content

    def unfinished(self) -> dict[str, Any] | None:
        """The fingerprint and frozen plan of an unfinished run; None when there is none.

        A workspace killed before its plan was written holds nothing worth keeping.
        """
        try:
            content: dict[str, Any] = json.loads(self.plan.read_text())
        except FileNotFoundError:
            return None
        return content

    def begin(self, content: dict[str, Any]) -> None:
        """Make an empty workspace whose plan.json holds `content`."""
        self.discard()
        self.result.mkdir(parents=True)
        write_durably(self.plan, json.dumps(content, indent=1))

    def discard(self) -> None:
        """Remove the workspace, which only tilseg makes."""
        _remove(self._trash)
        if self.partial.exists():
            # Renamed first: half of a workspace must never be taken for one.
            self.partial.rename(self._trash)
            _remove(self._trash)

    def publish(self) -> None:
        """Put the result in place of whatever has the final name, and remove the workspace.

        Raises OutputError E-OUTPUT-WRITE; a second call after it, or after a kill at any
        point and `repair`, ends in the same.
        """
        try:
            sync_tree(self.result)
            if self.single:
                write_durably(self._receipt, (self.result / RECEIPT).read_text())
            self._put_in_place()
            self.discard()
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError("E-OUTPUT-WRITE", path=self.final, reason=error.strerror) from error

    def _is_announced(self) -> bool:
        """Whether the receipt of the finished result is in place, but not yet the result."""
        try:
            announced = self._receipt.read_text() == (self.result / RECEIPT).read_text()
        except OSError:
            return False
        return announced and self._ready.exists()

    def _put_in_place(self) -> None:
        if self.final.exists():
            self.final.rename(self._old)
        self._ready.rename(self.final)
        sync_directory(self.final.parent)
        _remove(self._old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_durably(path: Path, text: str) -> None:
    """Write a small file whole or not at all, and force it to the disk.

    Raises OutputError E-OUTPUT-WRITE.
    """
    attempt = path.with_name(f"{path.name}.attempt")
    try:
        with attempt.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        attempt.replace(path)
    except OSError as error:
        attempt.unlink(missing_ok=True)
        raise OutputError("E-OUTPUT-WRITE", path=path, reason=error.strerror) from error


def sync_tree(root: Path) -> None:
    """Force every file below `root`, then every directory, to the disk."""
    directories = []
    for folder, _, names in os.walk(root):
        directories.append(Path(folder))
        for name in names:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())
    for directory in reversed(directories):
        sync_directory(directory)


def sync_directory(path: Path) -> None:
    """Force a directory's entries to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
