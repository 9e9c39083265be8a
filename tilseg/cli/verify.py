"""`tilseg verify OUT`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from tilseg.errors import DamageError, printable


@click.command(name="verify")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print what differs as JSON.")
def command(out: Path, as_json: bool) -> None:
    """Read all of the result OUT again and compare it with its receipt.

    Names every damaged, missing or added file; exit 12 if there is any.
    """
    from tilseg.verbs.verify import verify

    damage = verify(out)
    if as_json:
        click.echo(json.dumps([asdict(each) for each in damage], indent=1))
    else:
        for each in damage:
            click.echo(printable(f"{each.path} {each.what}"))
    if damage:
        raise DamageError("E-VERIFY", path=out, count=len(damage), first=damage[0].path)
    if not as_json:
        click.echo(f"{out}: every file is as its receipt says")
