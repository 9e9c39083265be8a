"""Losses over the labelled pixels of a batch: cross-entropy plus soft Dice.

The Dice term after Milletari et al. 2016 (arXiv:1606.04797), over the batch as one image, so
that a patch without a class does not swing it; equal weights, as nnU-Net does (Isensee et al.
2021, doi:10.1038/s41592-020-01008-z).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tilseg.models.blocks import crop_to
from tilseg.training.samples import IGNORE


def cross_entropy_dice(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum of both losses, over pixels whose label is not IGNORE; 0 where there is none.

    logits: (n, classes, rows, cols) for a softmax head; (n, 1, rows, cols) for a sigmoid head
        of the classes 0 and 1. labels: (n, rows, cols) uint8 class values.
    Returns a float32 scalar.
    """
    logits = logits.float()
    if logits.shape[1] == 1:
        # The softmax of (0, x) is (1 - sigmoid x, sigmoid x): one formula for both heads.
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    return cross_entropy(logits, labels) + dice(logits.softmax(dim=1), labels)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of (n, classes, rows, cols) scores, over the labelled pixels."""
    total = F.cross_entropy(logits, labels.long(), ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)


def dice(probabilities: Tensor, labels: Tensor) -> Tensor:
    """1 - soft Dice, mean of the classes that some pixel of the batch carries.

    probabilities: (n, classes, rows, cols). A class that is nowhere in the batch has no
    overlap to improve; the cross-entropy alone holds it down.
    """
    labelled = (labels != IGNORE).unsqueeze(1)
    classes = torch.arange(probabilities.shape[1], device=labels.device).view(1, -1, 1, 1)
    truth = (labels.unsqueeze(1) == classes).to(probabilities.dtype)
    over = (0, 2, 3)
    overlap = (probabilities * truth).sum(over)
    size = (probabilities * labelled).sum(over) + truth.sum(over)
    present = truth.sum(over) > 0
    loss = 1 - 2 * overlap / size.clamp(min=1e-6)
    return (loss * present).sum() / present.sum().clamp(min=1)


def deep_supervision(
    loss: Callable[[Tensor, Tensor], Tensor],
    heads: Sequence[Tensor],
    labels: Tensor,
    weights: Sequence[float],
) -> Tensor:
    """The weighted sum of `loss` over the scores of several heads (Lee et al. 2015,
    arXiv:1409.5185), each cropped to the labels."""
    losses = [
        weight * loss(crop_to(head, labels), labels)
        for head, weight in zip(heads, weights, strict=True)
    ]
    return torch.stack(losses).sum()
