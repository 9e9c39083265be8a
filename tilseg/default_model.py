"""Which bundled model an image gets when none is named: one for maps, or one for the rest."""

from __future__ import annotations

from collections.abc import Sequence

from tilseg.bands import has_bands
from tilseg.card import Card, read_card
from tilseg.errors import ModelError
from tilseg.model import bundled_models
from tilseg.source import Source

# A model of one organ or one kind of picture has to be named: nothing in an image tells it.
_UNNAMED = ("nuclei", "water")


def default_model(source: Source, bands: Sequence[int] | None = None) -> str:
    """Name of the bundled model that is for images like `source`.

    An image with a CRS is on a map, and a model whose pixel size is in metres is for maps. The
    image must have the bands of the model, by their number or by their names, unless the user
    has chosen `bands`.

    Raises ModelError E-MODEL-DEFAULT where no bundled model fits.
    """
    on_map = source.georef.crs is not None
    paths = bundled_models()
    cards = {name: read_card(paths[name]) for name in _UNNAMED}
    for name, card in cards.items():
        if _for_maps(card) == on_map and (bands is not None or has_bands(source, card)):
            return name
    raise ModelError(
        "E-MODEL-DEFAULT",
        path=source.uri,
        place=place(source),
        bands=_count(source.bands),
        models="; ".join(f"{name}: {_wants(card)}" for name, card in cards.items()),
    )


def place(source: Source) -> str:
    """What the choice goes by, in words."""
    return _place(source.georef.crs is not None)


def _for_maps(card: Card) -> bool:
    return card.unit == "m"


def _wants(card: Card) -> str:
    names = f" ({', '.join(card.band_names)})" if card.band_names else ""
    return f"{_count(card.bands)}{names}, {_place(_for_maps(card))}"


def _count(bands: int) -> str:
    return f"{bands} band{'s' if bands != 1 else ''}"


def _place(on_map: bool) -> str:
    return "on a map" if on_map else "not on a map"
