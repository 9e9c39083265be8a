"""`tilseg models`."""

from __future__ import annotations

import json

import click


@click.command(name="models")
@click.option("--json", "as_json", is_flag=True, help="Print the cards as JSON.")
def command(as_json: bool) -> None:
    """List what is in the package: models for `run`, and networks to train.

    `run --model` takes the name of a model, or a file of your own.
    """
    from tilseg.card import read_card
    from tilseg.cli.terminal import print_table
    from tilseg.model import bundled_models
    from tilseg.models.settings import SETTINGS

    cards = {name: read_card(path) for name, path in bundled_models().items()}
    if as_json:
        click.echo(json.dumps({n: c.model_dump(mode="json") for n, c in cards.items()}, indent=1))
        return
    print_table(
        ("model", "bands", "classes", "pixel size", "halo", "stride", "licence"),
        [
            (
                name,
                str(card.bands),
                ", ".join(info.name for info in card.classes),
                f"{card.pixel_size:g} {card.unit}" if card.pixel_size else "any",
                str(card.halo),
                str(card.stride),
                card.licence,
            )
            for name, card in cards.items()
        ],
    )
    click.echo()
    print_table(("network", "about"), [(name, each.about) for name, each in SETTINGS.items()])
