"""Other amounts of the stains in a picture of tissue.

Light goes through tissue as through a filter: the optical density of a pixel is the sum of those of
its stains (Ruifrok and Johnston 2001, Anal. Quant. Cytol. Histol. 23, 291-299). Each stain gets a
random factor and a random amount, as in Tellez et al. 2018 (doi:10.1109/TMI.2018.2820199).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import UsageError

# Optical densities of haematoxylin, eosin and DAB in red, green and blue: Ruifrok and Johnston's,
# as scikit-image has them.
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
# Amounts are added up to this part of the strength: most of a picture of tissue is nearly white.
_ADDED = 0.25


def jitter_stains(
    pixels: NDArray[Any], strength: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """RGB pixels (rows, cols, 3) of uint8 or uint16, with other amounts of stains.

    strength: each stain is multiplied by 1 plus up to this or minus up to this, and up to a quarter
    of it is added or taken away, in units of optical density (of natural logarithms).

    Raises UsageError E-TRAIN-STAIN for other pixels.
    """
    if pixels.shape[2] != 3 or pixels.dtype not in (np.uint8, np.uint16):
        raise UsageError("E-TRAIN-STAIN", bands=pixels.shape[2], dtype=pixels.dtype)
    factors = 1 + rng.uniform(-strength, strength, 3)
    return with_stains(pixels, factors, _ADDED * rng.uniform(-strength, strength, 3))


def with_stains(
    pixels: NDArray[Any], factors: NDArray[np.float64], added: NDArray[np.float64]
) -> NDArray[np.float32]:
    """The pixels with `factors` of their stains and `added` ones, each (3,) float64.

    Unlike scikit-image's, negative amounts stay: colours that no stain has are changed with the
    others, and factors of 1 leave every colour as it is.
    """
    white = np.iinfo(pixels.dtype).max
    # Of every value once. No light at all has no logarithm.
    logarithms = np.log(np.maximum(np.arange(white + 1), 1) / white).astype(np.float32)
    change = np.linalg.inv(_STAINS) @ np.diag(factors) @ _STAINS
    density = logarithms[pixels].reshape(-1, 3) @ change.astype(np.float32)
    # Whole rows at a time, in place: an innermost axis of three takes several times as long.
    rows, cols, _ = pixels.shape
    light: NDArray[np.float32] = density.reshape(rows, 3 * cols)
    light -= np.tile((added @ _STAINS).astype(np.float32), cols)
    np.exp(light, out=light)
    np.minimum(light, 1, out=light)
    light *= np.float32(white)
    return light.reshape(pixels.shape)
