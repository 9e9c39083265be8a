"""How a command ends that can't go on: one line on stderr, and an exit code."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from pathlib import Path

import click

import tilseg
from tilseg.errors import OutputError, ResourceError, TilsegError, UsageError

_PACKAGE = Path(tilseg.__file__).parent


def as_ours(error: Exception) -> TilsegError:
    """Any exception as one of the tree; what was not raised on purpose is E-BUG."""
    if isinstance(error, TilsegError):
        return error
    if isinstance(error, click.ClickException):
        command = getattr(error, "ctx", None)
        path = command.command_path if command else "tilseg"
        # click ends its sentences, the catalogue goes on.
        message = error.format_message().rstrip(".")
        return UsageError("E-USAGE", message=message, command=path)
    if isinstance(error, MemoryError):
        return ResourceError("E-MEMORY-SPENT")
    place = _place(error)
    if isinstance(error, OSError) and error.filename is None and place.startswith("cli"):
        # The command line writes to no file of its own, only to stdout.
        mute()
        return OutputError("E-STDOUT", reason=error.strerror)
    reason = str(error) or "no words"
    return TilsegError("E-BUG", kind=type(error).__name__, place=place, reason=reason)


def _place(error: Exception) -> str:
    """The innermost line of tilseg that the error came through: cli/main.py:12."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_PACKAGE)]
    file = Path(ours[-1].filename).relative_to(_PACKAGE).as_posix() if ours else "its start"
    return f"{file}:{ours[-1].lineno}" if ours else file


def show(error: TilsegError, *, as_json: bool, cause: Exception | None = None) -> None:
    """The last line on stderr: `error[ID]: words`, or the same as a JSON object.

    cause: the exception whose traceback, with all that led to it, comes before.
    """
    line = f"error[{error.id}]: {error.message}"
    if as_json:
        content = {"error": error.id, "exit_code": error.exit_code, "message": error.message}
        facts = {name: _plain(fact) for name, fact in error.facts.items()}
        line = json.dumps({**content, "advice": error.advice, "facts": facts})
    # Where nobody reads stderr any more there is nobody to tell.
    with contextlib.suppress(OSError):
        if cause is not None:
            traceback.print_exception(cause)
        print(line, file=sys.stderr, flush=True)


def _plain(fact: object) -> object:
    return fact if isinstance(fact, bool | int | str) else str(fact)


def flush() -> None:
    """Have all of stdout written. Raises BrokenPipeError, and OutputError E-STDOUT."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        mute()
        raise OutputError("E-STDOUT", reason=error.strerror) from error


def mute() -> None:
    """Keep the interpreter from complaining at exit about output that can't be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
