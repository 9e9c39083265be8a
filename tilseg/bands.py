"""Which bands of an image a model gets: by number, by name, or all in their order."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tilseg.card import Card
from tilseg.errors import InputError
from tilseg.source import Source


def choose_bands(source: Source, card: Card, bands: Sequence[int] | None) -> tuple[int, ...]:
    """The bands of `source` in the model's order, counted from 0.

    bands: as the user counts them, from 1. Without them they are found by name, where the card and
    the image name all of theirs; else they are the image's own, if their number is the model's.

    Raises InputError: E-INPUT-BAND for a number that is not there, E-INPUT-BANDS for a number of
    bands that is not the model's, E-INPUT-BAND-NAMES where the names do not tell.
    """
    if bands is None and _tell_apart(card.band_names) and all(source.band_names):
        return _by_name(source, card)
    chosen = tuple(range(1, source.bands + 1)) if bands is None else tuple(bands)
    for band in chosen:
        if not 1 <= band <= source.bands:
            raise InputError("E-INPUT-BAND", path=source.uri, band=band, bands=source.bands)
    if len(chosen) != card.bands:
        example = ",".join(str(min(band, source.bands)) for band in range(1, card.bands + 1))
        raise InputError(
            "E-INPUT-BANDS",
            path=source.uri,
            bands=len(chosen),
            wanted=card.bands,
            example=example,
        )
    return tuple(band - 1 for band in chosen)


def has_bands(source: Source, card: Card) -> bool:
    """Whether `choose_bands` has as many bands as the model wants without being told which."""
    if source.bands == card.bands:
        return True
    if not _tell_apart(card.band_names) or not all(source.band_names):
        return False
    return all(_named(name, source.band_names) for name in card.band_names)


def _tell_apart(names: Sequence[str]) -> bool:
    return bool(names) and all(names) and len(set(names)) == len(names)


def _by_name(source: Source, card: Card) -> tuple[int, ...]:
    found = [_named(name, source.band_names) for name in card.band_names]
    missing = [name for name, bands in zip(card.band_names, found, strict=True) if not bands]
    reason = f"has no band {' or '.join(missing)}" if missing else ""
    for name, bands in zip(card.band_names, found, strict=True):
        if len(bands) > 1 and not reason:
            shown = " and ".join(str(band + 1) for band in bands)
            reason = f"its bands {shown} could both be {name}"
    if reason:
        raise InputError(
            "E-INPUT-BAND-NAMES",
            path=source.uri,
            reason=reason,
            names=", ".join(source.band_names),
            wanted=", ".join(card.band_names),
        )
    return tuple(bands[0] for bands in found)


def _named(wanted: str, names: Sequence[str]) -> list[int]:
    """The bands of that name, or else those with its words among theirs: B02 in B02_10m."""
    words = _words(wanted)
    shown = [_words(name) for name in names]
    return [k for k, name in enumerate(shown) if name == words] or [
        k for k, name in enumerate(shown) if f" {words} " in f" {name} "
    ]


def _words(name: str) -> str:
    """In small letters with one blank between words, so that near_infrared is Near infrared."""
    return " ".join(re.findall(r"[^\W_]+", name.casefold()))
