"""The `tilseg` command: finds the verb, and turns errors into one line and an exit code."""

from __future__ import annotations

import importlib
import os
import signal
import sys

import click

from tilseg.errors import TilsegError

# verb -> one line of help; its module is imported only when it is called.
_VERBS = {
    "run": "Segment an image into a mask.",
    "plan": "Show what `run` would do, without doing it.",
    "verify": "Check a result against its receipt, byte by byte.",
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
    try:
        # click returns the code that a command ended with by `Exit`, and None otherwise.
        code = cli.main(args=arguments, prog_name="tilseg", standalone_mode=False) or 0
        sys.stdout.flush()
    except TilsegError as error:
        code = _fail(error.id, error.message, error.exit_code)
    except click.UsageError as error:
        hint = f" (see: {error.ctx.command_path} --help)" if error.ctx else ""
        code = _fail("E-USAGE", error.format_message() + hint, 2)
    except (click.Abort, KeyboardInterrupt):
        from tilseg.cli.stopping import die_by

        die_by(signal.SIGINT)
    except BrokenPipeError:
        # The reader of our output has gone, and the interpreter would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code)


def _fail(id: str, message: str, code: int) -> int:
    print(f"error[{id}]: {message}", file=sys.stderr)
    return code
