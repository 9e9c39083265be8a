"""`tilseg view OUT`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import webbrowser
from pathlib import Path

import click


@click.command(name="view")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port to listen on, of this machine alone.  [default: a free one]",
)
@click.option("--no-open", is_flag=True, help="Print the address, and leave the browser closed.")
def command(out: Path, port: int | None, no_open: bool) -> None:
    """Look at the result OUT in a browser: image, mask and regions, at any size.

    The page comes from this machine and only this machine can open it. A run that is not finished
    can be looked at too: its blocks appear as they are done. Ctrl-C ends it.
    """
    from tilseg.view.server import ViewServer

    # A script that starts this with & has it ignored, and nothing else would end it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with ViewServer(out, port or 0) as server:
        click.echo(server.url)
        click.echo("Ctrl-C ends it", err=True)
        if not no_open and _has_screen():
            # Some browsers are waited for, and wait for an answer themselves.
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            # The way to end it, and no failure.
            click.echo(err=True)


def _has_screen() -> bool:
    """Whether a browser would have a window; without one it would take the terminal."""
    named = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in named)
