"""How strongly training patches are changed, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

Strength = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How strongly patches are changed; 0 is not at all.

    flips: one of the eight flips and quarter turns. zoom: factors, drawn log-uniformly, by which
    objects grow. elastic: deviation in pixels of random vectors on a 3 x 3 grid over the patch,
    between which it is bent; the U-Net paper's is 10.
    stain: haematoxylin, eosin and DAB times 1 +- up to this, see `tilseg.training.stains`; for RGB.
    mix: up to this share of every band becomes a random average of all bands. gamma: up to this is
    the logarithm of the exponent of the brightness curve. contrast, brightness: x -> x exp(c) + b,
    up to these for all bands together and up to half of them for each band alone. blur: Gaussian of
    up to so many pixels, noise: of up to this deviation, each in a third of the patches.
    Intensities are in standard deviations of the image.
    """

    flips: bool = True
    zoom: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.0, 1.0)
    elastic: Strength = 0.0
    stain: Annotated[float, Field(ge=0, lt=1)] = 0.0
    mix: Annotated[float, Field(ge=0, le=1)] = 0.0
    gamma: Strength = 0.0
    contrast: Strength = 0.15
    brightness: Strength = 0.15
    blur: Strength = 0.0
    noise: Strength = 0.0

    def __post_init__(self) -> None:
        if self.zoom[0] > self.zoom[1]:
            raise ValueError("the first factor of zoom is the smaller one")


_STRONG = Augmentation(
    zoom=(0.6, 1.6),
    elastic=10.0,
    mix=0.3,
    gamma=0.25,
    contrast=0.25,
    brightness=0.2,
    blur=1.0,
    noise=0.15,
)
# light: objects of one size in one light, as on the map of one sensor. medium: some instruments
# and magnifications, in a training of half an hour. strong: many of them, for a long one.
# histology: stained tissue of many laboratories and scanners, with other stains, not other colours.
AUGMENTATIONS = {
    "light": Augmentation(),
    "medium": Augmentation(zoom=(0.8, 1.3), elastic=4.0, gamma=0.1),
    "strong": _STRONG,
    "histology": replace(
        _STRONG, zoom=(0.8, 1.3), stain=0.2, mix=0.0, contrast=0.15, brightness=0.1
    ),
}
