"""How strongly training patches are changed, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How strongly patches are changed; intensities in standard deviations of the image.

    zoom: factors, drawn log-uniformly, by which objects grow. gain, shift: x -> x exp(g) + s,
    up to these for all bands together and up to half of them for each band alone. mix: up to
    this share of every band becomes a random average of all bands. gamma: up to this is the
    logarithm of the exponent of the brightness curve. blur: sigma in pixels, and noise: sigma,
    each up to this in a third of the patches.
    """

    zoom: tuple[float, float] = (1.0, 1.0)
    gain: float = 0.15
    shift: float = 0.15
    mix: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    noise: float = 0.0


# light: objects of one size in one light, as on the map of one sensor. medium: some instruments
# and magnifications, in a training of half an hour. strong: many of them, for a long one.
AUGMENTATIONS = {
    "light": Augmentation(),
    "medium": Augmentation(zoom=(0.8, 1.3), gamma=0.1),
    "strong": Augmentation(
        zoom=(0.6, 1.6), gain=0.25, shift=0.2, mix=0.3, gamma=0.25, blur=1.0, noise=0.15
    ),
}
