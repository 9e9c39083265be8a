"""Exports are made in a folder of their own and moved into place when they are whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tilseg.errors import OutputError, TilsegError


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A hidden folder beside `path` to make it in, under its own name.

    On leaving, every file directly in it moves beside `path`, which comes last. The folder
    goes, also after a failure, and one that a killed process left goes first.

    Raises OutputError E-OUTPUT-WRITE for every OSError inside.
    """
    folder = path.with_name(f".{path.name}.staging")
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        try:
            yield folder
            files = sorted(file for file in folder.iterdir() if file.is_file())
            for file in sorted(files, key=lambda file: file.name == path.name):
                os.replace(file, path.with_name(file.name))
        finally:
            shutil.rmtree(folder)
    except TilsegError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError("E-OUTPUT-WRITE", path=path, reason=reason) from error
