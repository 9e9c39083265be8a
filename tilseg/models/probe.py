"""Measure what a network needs around a pixel, and what tiling costs where it is not exact.

A receptive field that is only declared is a promise; here the window is grown, and no kept
score may change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tilseg.model import BandStatistics
from tilseg.models import scores
from tilseg.models.blocks import Network
from tilseg.models.torch_model import TorchModel
from tilseg.plan import TileGrid
from tilseg.window import Size, read_mirrored

_EQUAL = 1e-12  # of float64 scores of order one


@torch.no_grad()
def measured_halo(network: Network, limit: int | None = None) -> int | None:
    """The least context, in pixels a side, beyond which growing the window changes nothing.

    What the network takes off each side, plus the least multiple of its stride after which the
    scores of a kept block stay as they are with all the context up to `limit` (default: four
    strides past the declared halo). None where even that is not enough. The network must be in
    float64 and eval mode; random weights show most. Strips are measured, as thin as the network
    takes, so that a halo of hundreds of pixels is cheap.
    """
    field, stride = network.field, network.field.stride
    shortest = field.input_for(1)
    lost: int = (shortest - network(_noise(network, shortest, shortest)).shape[-1]) // 2
    most = -(-((limit or field.halo + 4 * stride) - lost) // stride) * stride
    kept = 2 * stride
    rows, cols = (_legal(network, 2 * lost + out) for out in (1, kept + 2 * most))
    strip = _noise(network, rows, cols)
    reference = network(strip)[..., most : most + kept]
    for spare in range(0, most, stride):
        start = most - spare
        stop = start + _legal(network, 2 * lost + kept + 2 * spare)
        found = network(strip[..., start:stop])[..., spare : spare + kept]
        if torch.allclose(found, reference, rtol=_EQUAL, atol=_EQUAL):
            return lost + spare
    return None


def _legal(network: Network, pixels: int) -> int:
    """The next length on the network's lattice, whatever context it has."""
    return pixels + (network.field.offset - pixels) % network.field.stride


def _noise(network: Network, rows: int, cols: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (1, network.bands, rows, cols)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def tiled_logits(
    model: TorchModel, pixels: NDArray[Any], statistics: BandStatistics, tile: int
) -> NDArray[Any]:
    """Scores (channels, rows, cols) float64 of an image (rows, cols, bands), predicted in tiles.

    The image is mirrored outward without end; `tile` is the output step, for rows and columns.
    A step as large as the image gives the scores of the whole image. Raises UsageError
    E-TILE-STEP for a step off the model's lattice.
    """
    shape = Size(*pixels.shape[:2])
    grid = TileGrid(shape, model.field, Size(tile, tile), Size(1, 1))
    found = np.empty((model.card.channels, *shape), np.float64)
    for block in grid:
        (part,) = block.tiles
        window = read_mirrored(lambda inside: pixels[inside.slices], part.read, shape)
        logits = model.logits(window[np.newaxis], statistics)[0]
        found[(slice(None), *part.write.slices)] = logits[:, : part.write.rows, : part.write.cols]
    return found


@dataclass(frozen=True, slots=True)
class Inexactness:
    """How far the same pixels differ between two tile sizes.

    score: largest difference of a score. labels: fraction of pixels whose class differs.
    """

    score: float
    labels: float


def measure_inexactness(
    model: TorchModel,
    pixels: NDArray[Any],
    statistics: BandStatistics,
    tiles: tuple[int, int],
) -> Inexactness:
    """What tiling costs a model that is not exact: one image (rows, cols, bands) in two ways."""
    first, second = (tiled_logits(model, pixels, statistics, tile) for tile in tiles)
    classes = [scores.labels(torch.from_numpy(found), model.card) for found in (first, second)]
    return Inexactness(
        score=float(np.abs(first - second).max()),
        labels=float((classes[0] != classes[1]).double().mean()),
    )
