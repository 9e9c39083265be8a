"""`tilseg view OUT`."""

from __future__ import annotations

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

    with ViewServer(out, port or 0) as server:
        click.echo(server.url)
        click.echo("Ctrl-C ends it", err=True)
        if not no_open:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            # The way to end it, and no failure.
            click.echo(err=True)
