"""`tilseg finish OUT`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tilseg.cli.run import DEGRADED


@click.command(name="finish")
@click.argument("output", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--break-lock",
    is_flag=True,
    help="Own the output though another run seems to; for when that one is known to be dead.",
)
@click.option("--json", "as_json", is_flag=True, help="Print summary.json instead of a table.")
def command(output: Path, break_lock: bool, as_json: bool) -> None:
    """Publish OUT, whose shards are done.

    The last shard to end does this by itself; it is needed where that one was killed meanwhile.
    OUT is what -o of the shards was. A result that is there is left alone.
    """
    from tilseg.cli.endings import show_report
    from tilseg.cli.stopping import stopping
    from tilseg.cli.terminal import ProgressDisplay
    from tilseg.verbs.shards import finish_shards

    with stopping() as stop, ProgressDisplay() as display:
        report = finish_shards(output, break_lock=break_lock, progress=display.update, stop=stop)
    if as_json:
        click.echo(json.dumps(report.summary, indent=1))
    else:
        show_report(report, output)
    if report.bad:
        raise click.exceptions.Exit(DEGRADED)
