"""The `tilseg` command: finds the verb, and turns errors into one line and an exit code."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys

import click

from tilseg.cli import failing
from tilseg.cli.stopping import die_by
from tilseg.heap import keep_freed_memory

_BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell reports it
_DEBUG = click.Option(
    ["--debug"],
    is_flag=True,
    expose_value=False,
    help="When it fails, show where in the code.",
)

# verb -> one line of help; its module is imported only when it is called.
_VERBS = {
    "run": "Segment an image into a mask.",
    "finish": "Publish a run whose shards are done.",
    "plan": "Show what `run` would do, without doing it.",
    "bench": "Measure how fast this machine segments an image.",
    "verify": "Check a result against its receipt, byte by byte.",
    "view": "Look at a result in a browser.",
    "measure": "Measure the regions of a mask.",
    "evaluate": "Compare a mask with the truth.",
    "change": "Show what changed from one mask to another.",
    "info": "Show what an image file holds.",
    "models": "List the models that `run` can use.",
    "train": "Train a model from images and masks.",
}


class _Verbs(click.Group):
    """A group whose commands are modules of this package, imported when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        command: click.Command = importlib.import_module(f"tilseg.cli.{cmd_name}").command
        if _DEBUG not in command.params:
            command.params.append(_DEBUG)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))


@click.group(
    cls=_Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`tilseg run slide.tif` is where to begin; `tilseg COMMAND --help` tells more.",
)
@click.version_option(package_name="tilseg")
def cli() -> None:
    """Segment images too large for memory, exactly as if they had been segmented whole."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point. Exits with the code of the error tree; see docs/reference."""
    words = sys.argv[1:] if arguments is None else arguments
    # Before anything starts a thread.
    keep_freed_memory()
    _steady_streams()
    try:
        # click returns the code that a command ended with by `Exit`, and None otherwise.
        code = cli.main(args=words, prog_name="tilseg", standalone_mode=False) or 0
        failing.flush()
    except (click.Abort, KeyboardInterrupt):
        die_by(signal.SIGINT)
    except (BrokenPipeError, SystemExit):
        # Nobody reads our output any more; rich says so by SystemExit.
        failing.mute()
        code = _BROKEN_PIPE
    except Exception as error:
        known = failing.as_ours(error)
        debug = error if "--debug" in words else None
        failing.show(known, as_json="--json" in words, cause=debug)
        code = known.exit_code
    sys.exit(code)


def _steady_streams() -> None:
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            # Closed: the next file opened would take its number, and what is written to it.
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name of a file need not be text in the terminal's encoding.
            stream.reconfigure(errors="backslashreplace")
