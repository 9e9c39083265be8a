"""The eight symmetries of the square, and scores averaged over them.

Each input is predicted in eight positions, the scores are turned back, and the probabilities are
averaged, as Wang et al. 2019 (doi:10.1016/j.neucom.2019.01.103) describe it. What is turned is the
whole input with its halo. Inputs begin on the pooling lattice and all have lengths of one remainder,
so they end on one lattice too: turned tiles see the cells that the turned whole image has.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_COUNT = 8


def turned(x: Tensor, symmetry: int) -> Tensor:
    """(..., rows, cols) in position `symmetry`, 0 to 7: quarter turns, then from 4 on a flip."""
    quarters = torch.rot90(x, symmetry % 4, dims=(-2, -1))
    return quarters.flip(-1) if symmetry >= 4 else quarters


def turned_back(x: Tensor, symmetry: int) -> Tensor:
    """What `turned` makes of the result is `x`."""
    quarters = x.flip(-1) if symmetry >= 4 else x
    return torch.rot90(quarters, -(symmetry % 4), dims=(-2, -1))


def averaged(score: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """Scores whose probabilities are the mean of those in all eight positions.

    pixels: (bands, rows, cols). score: takes them to (channels, rows', cols'), one channel for a
    sigmoid. The result is the logarithm of the mean probability of each class, or its log-odds for
    one channel. Where a score in one position is NaN or infinite, those scores are the result.
    """
    total: Tensor | None = None
    for symmetry in range(_COUNT):
        found = turned_back(score(turned(pixels, symmetry)), symmetry)
        if not found.isfinite().all():
            return found
        logs = _log_probabilities(found)
        total = logs if total is None else torch.logaddexp(total, logs)
    assert total is not None
    mean = total - math.log(_COUNT)
    return mean if len(found) > 1 else mean[1:] - mean[:1]


def _log_probabilities(scores: Tensor) -> Tensor:
    # Not probabilities: a class far behind has one of 0 in float32, and no logarithm.
    if len(scores) > 1:
        return F.log_softmax(scores, dim=0)
    return torch.cat([F.logsigmoid(-scores), F.logsigmoid(scores)])
