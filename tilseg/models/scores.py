"""From scores to classes, probabilities and a verdict, on the device of the scores.

Scores are those of one input: (channels, rows, cols) float32 or float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tilseg.card import Card


def labels(scores: Tensor, card: Card) -> Tensor:
    """(rows, cols) uint8: the first of the largest scores (softmax head), or 1 where the
    probability is above the card's threshold (sigmoid head)."""
    if card.head == "sigmoid":
        return (torch.sigmoid(scores[0]) > card.threshold).to(torch.uint8)
    # argmax gives eight bytes a pixel, is an order slower over a short axis, and does not
    # promise which of two equal scores it takes. A later larger score has the larger value.
    best = scores[0]
    classes = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
    for value in range(1, len(scores)):
        larger = scores[value] > best
        classes = torch.maximum(classes, larger.to(torch.uint8).mul_(value))
        best = torch.maximum(best, scores[value])
    return classes


def probabilities(scores: Tensor, card: Card) -> Tensor:
    """(rows, cols, classes) uint8: 255 p, rounded to the nearest, halves to even."""
    if card.head == "sigmoid":
        one = torch.sigmoid(scores)
        certain = torch.cat([1 - one, one], dim=0)
    else:
        certain = torch.softmax(scores, dim=0)
    return certain.mul_(255).round_().to(torch.uint8).permute(1, 2, 0).contiguous()


def finite(scores: Tensor) -> Tensor:
    """() bool: whether no score is NaN or infinite."""
    # One number, into which any NaN or infinity carries.
    return scores.abs().amax().isfinite()
