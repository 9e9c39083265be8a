"""Writes that are whole or not there, and errors of the disk as errors of ours."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from tilseg.errors import OutputError, TilsegError

# Files that are forced to the disk at once.
_SYNCS = 8
# Files that a thread pool is given at a time: a result may have a million.
_IN_HAND = 1000


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Every OSError inside leaves as OutputError E-OUTPUT-WRITE (exit 7) that names `path`."""
    try:
        yield
    except TilsegError:
        # Some are OSErrors too, and say more.
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError("E-OUTPUT-WRITE", path=path, reason=reason) from error


def write_durably(path: Path, content: str | bytes) -> None:
    """Write a small file whole or not at all, and force it and its name to the disk.

    Raises OutputError E-OUTPUT-WRITE.
    """
    attempt = path.with_name(f"{path.name}.attempt")
    with writing(path):
        try:
            with attempt.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            attempt.replace(path)
        except OSError:
            attempt.unlink(missing_ok=True)
            raise
        sync(path.parent)


def seal(content: Mapping[str, Any]) -> str:
    """`content` as JSON text that ends in the sha256 of all the rest."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, indent=1)


def unseal(written: bytes) -> dict[str, Any]:
    """What `seal` was given; raises ValueError where one bit of its text is another."""
    try:
        content: dict[str, Any] = json.loads(written)
        content.pop("sha256")
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        raise ValueError("is no sealed JSON") from None
    # Of the text, not of the values: "1e-5" and "1E-5" differ by a bit and are the same number.
    if seal(content).encode() != written:
        raise ValueError("differs from its sha256")
    return content


def sync_tree(root: Path) -> None:
    """Force every file below `root`, then every directory, to the disk."""
    directories = []

    def files() -> Iterator[str]:
        for folder, _, names in os.walk(root):
            directories.append(folder)
            yield from (os.path.join(folder, name) for name in names)

    # Most of the time of each is a wait that it can share with others.
    with ThreadPoolExecutor(_SYNCS) as threads:
        for paths in (files(), iter(directories)):
            while some := list(islice(paths, _IN_HAND)):
                for _ in threads.map(sync, some):
                    pass


def sync(path: str | Path) -> None:
    """Force the bytes of a file, or the entries of a directory, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """A new folder that appears as `output`, in place of what is there, when all went well."""
    output = output.absolute()
    stage = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        # Not the stage itself: what mkdtemp makes is for its owner's eyes alone.
        ready = stage / "new"
        ready.mkdir()
        yield ready
        sync_tree(ready)
        _swap(ready, output, stage / "old")
        sync(output.parent)
    finally:
        remove(stage)


def _swap(ready: Path, output: Path, old: Path) -> None:
    """Give `ready` the name `output`, and what has it the name `old`; both or none."""
    replaced = output.exists()
    if replaced:
        output.rename(old)
    try:
        ready.rename(output)
    except OSError:
        if replaced:
            old.rename(output)
        raise


def remove(path: Path) -> None:
    """Remove a file or a whole directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
