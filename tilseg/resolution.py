"""Which pixel size an image is segmented at: that of the model, one asked for, or its own."""

from __future__ import annotations

import logging

from tilseg.card import Card
from tilseg.errors import InputError, UsageError
from tilseg.georef import ONE_TO_ONE, Factors, PixelSize
from tilseg.lengths import LENGTH_FORM, convert, parse_length
from tilseg.regions.units import ground_size
from tilseg.source import Level, Source

_log = logging.getLogger("tilseg")

NATIVE = "native"
# Networks are trained on objects of many sizes: less than this is not worth resampling.
_ALIKE = 1.1
# Pixels finer than that hold nothing but what the kernel makes up.
_FINEST = 1 / 4


def choose_factors(
    source: Source, card: Card, resolution: str | float | None, level: int | None
) -> Factors | None:
    """Pixels of level 0 that a pixel spans where the image has to be resampled, or None.

    resolution: a number in the image's own unit, a length such as "0.5um" or "10m", which on a
    map is one on the ground, or "native". None for the model's, where that and the image's are
    known and differ by more than a tenth, and no `level` is asked for.

    Raises InputError E-PIXEL-UNKNOWN for an image that states no pixel size, E-PIXEL-FACTOR for
    one that is far too coarse; UsageError E-OPTION for what is no length, or one with a level,
    E-PIXEL-UNIT for one that can't be compared to the image's.
    """
    if resolution is None or resolution == NATIVE:
        factors = _of_model(source, card)
        if factors is None or _alike(factors, source.levels[level or 0]):
            return None
        if resolution is None and level is None:
            target = f"{card.pixel_size:g} {card.unit}"
            _log.info("resampling to %s, as the model was trained (--mpp native does not)", target)
            return _checked(source, factors, target)
        _log.warning(
            "the model was trained at %g %s, which is %.2f x %.2f of the pixels it gets",
            card.pixel_size,
            card.unit,
            factors.rows / source.levels[level or 0].row_factor,
            factors.cols / source.levels[level or 0].col_factor,
        )
        return None
    if level is not None:
        allowed = "--mpp alone, which reads the level that fits"
        raise UsageError("E-OPTION", option="--level", value=level, allowed=allowed)
    return _asked(source, resolution)


def resolution_of(source: Source, card: Card, factors: Factors | None) -> str | None:
    """What makes `choose_factors` choose `factors` again, without a level; None for nothing."""
    trained = None
    if card.pixel_size is not None and card.unit is not None:
        trained = _factors(card.pixel_size, card.unit, _pixel(source, card.unit))
    if factors is None:
        resampled = trained is not None and not _alike(trained, source.levels[0])
        return NATIVE if resampled else None
    if factors == trained:
        return None
    own, ground = source.georef.pixel_size, _pixel(source, "m")
    # A bare number is in the image's own unit; one with a unit is on the ground.
    texts = [*_sizes(factors, own, ""), *_sizes(factors, ground, ground.unit if ground else "")]
    return next((text for text, back in texts if back == factors), texts[-1][0])


def _sizes(
    factors: Factors, pixel: PixelSize | None, unit: str
) -> list[tuple[str, Factors | None]]:
    """`factors` as a length, short and to the last bit, and what each would be read as."""
    if pixel is None:
        return []
    side = factors.rows * pixel.rows
    return [
        (f"{value}{unit}", _factors(float(value), pixel.unit, pixel))
        for value in (f"{side:.12g}", repr(side))
    ]


def _asked(source: Source, resolution: str | float) -> Factors | None:
    found = parse_length(resolution)
    if found is None:
        allowed = f"{LENGTH_FORM}; or {NATIVE}"
        raise UsageError("E-OPTION", option="--mpp", value=resolution, allowed=allowed)
    own = source.georef.pixel_size
    if own is None:
        raise InputError("E-PIXEL-UNKNOWN", path=source.uri)
    value, unit = found
    # Without a unit it is in the CRS's own, whatever that measures on the ground.
    factors = (
        _factors(value, unit, _pixel(source, unit)) if unit else _factors(value, own.unit, own)
    )
    if factors is None:
        raise UsageError("E-PIXEL-UNIT", value=resolution, path=source.uri, unit=own.unit)
    return (
        None
        if factors == ONE_TO_ONE
        else _checked(source, factors, f"{value:g} {unit or own.unit}")
    )


def _of_model(source: Source, card: Card) -> Factors | None:
    """What the model's pixel size asks for; None, and a warning, where that can't be told."""
    if card.pixel_size is None or card.unit is None:
        return None
    factors = _factors(card.pixel_size, card.unit, _pixel(source, card.unit))
    if factors is None:
        own = source.georef.pixel_size
        _log.warning(
            "the model was trained at %g %s, and %s: check that objects have the size it knows",
            card.pixel_size,
            card.unit,
            f"the image has pixels in {own.unit}"
            if own
            else "the image states no pixel size (give it with --pixel-size)",
        )
    return factors


def _pixel(source: Source, unit: str) -> PixelSize | None:
    """The image's pixel, on the ground if it is a map's and `unit` is a length."""
    georef = source.georef
    return ground_size(georef, source.shape) if unit != "degree" else georef.pixel_size


def _factors(value: float, unit: str, pixel: PixelSize | None) -> Factors | None:
    """How many pixels a length spans down and across; None where that can't be told."""
    if pixel is None:
        return None
    length = convert(value, unit, pixel.unit)
    return None if length is None else Factors(length / pixel.rows, length / pixel.cols)


def _alike(factors: Factors, level: Level) -> bool:
    ratios = factors.rows / level.row_factor, factors.cols / level.col_factor
    return all(1 / _ALIKE <= ratio <= _ALIKE for ratio in ratios)


def _checked(source: Source, factors: Factors, target: str) -> Factors:
    if min(factors) < _FINEST:
        times = f"{1 / min(factors):.3g}"
        raise InputError("E-PIXEL-FACTOR", path=source.uri, times=times, target=target)
    return factors
