"""Losses over the labelled pixels of a batch.

Each takes logits and labels, leaves pixels whose label is IGNORE out, and is 0 where no pixel is
labelled:

    logits: (n, classes, rows, cols) of a softmax head; (n, 1, rows, cols) of a sigmoid head, the
        certainty of class 1 of the classes 0 and 1.
    labels: (n, rows, cols) uint8 class values.

They return a float32 scalar (float64 of float64 logits). Sums over pixels run over the whole batch
as one image, so that a patch without a class does not swing them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tilseg.errors import UsageError
from tilseg.models.blocks import crop_to
from tilseg.training.border_weights import border_weights, objects_of
from tilseg.training.samples import IGNORE

Loss = Callable[[Tensor, Tensor], Tensor]

_LEAST = 1e-6  # of a denominator


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weights: Sequence[float] = (),
    pixel_weights: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy; of a sigmoid head that is binary cross-entropy.

    class_weights: how much a pixel of each class counts in the mean. pixel_weights: (n, rows,
    cols), how much each pixel counts.
    """
    return _mean(_entropies(logits, labels), _weights(labels, class_weights, pixel_weights))


def border_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in which the ground between near objects counts up to 11 times as much.

    Ronneberger et al. 2015, arXiv:1505.04597, with class 0 as the ground; see `border_weights`.
    """
    masks = labels.cpu().numpy()
    weights = np.stack([border_weights(objects_of(mask)) for mask in masks])
    return cross_entropy(logits, labels, pixel_weights=torch.from_numpy(weights).to(labels.device))


def focal(
    logits: Tensor, labels: Tensor, *, gamma: float = 2.0, class_weights: Sequence[float] = ()
) -> Tensor:
    """Cross-entropy in which a pixel of certainty p counts (1 - p)^gamma.

    Lin et al. 2017, arXiv:1708.02002; their alpha is a weight of the classes.
    """
    entropies = _entropies(logits, labels)
    hardness = (1 - (-entropies).exp()) ** gamma
    return _mean(hardness * entropies, _weights(labels, class_weights, None))


def dice(logits: Tensor, labels: Tensor, *, squared: bool = False, smooth: float = 0.0) -> Tensor:
    """1 - (2 |p t| + smooth) / (|p| + |t| + smooth), mean of the classes that some pixel carries.

    squared: p^2 for p in the denominator, as Milletari et al. 2016 have it (arXiv:1606.04797);
    plain is that of Drozdzal et al. 2016 (arXiv:1608.04117). A class that is nowhere in the
    batch has no overlap to improve; the cross-entropy alone holds it down.
    """
    found, truth = _shares(logits, labels)
    size = _total(found**2 if squared else found) + _total(truth)
    score = (2 * _total(found * truth) + smooth) / (size + smooth).clamp(min=_LEAST)
    return _mean_of_present(1 - score, truth)


def tversky(logits: Tensor, labels: Tensor, *, alpha: float = 0.3, beta: float = 0.7) -> Tensor:
    """1 - TP / (TP + alpha FP + beta FN), mean of the classes that some pixel carries.

    Salehi et al. 2017, arXiv:1706.05721: with beta above alpha what is missed costs more than
    what is found in excess; at 1/2 and 1/2 it is the plain Dice loss.
    """
    found, truth = _shares(logits, labels)
    hit = _total(found * truth)
    excess, missed = _total(found) - hit, _total(truth) - hit
    score = hit / (hit + alpha * excess + beta * missed).clamp(min=_LEAST)
    return _mean_of_present(1 - score, truth)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross-entropy": cross_entropy,
    "border": border_cross_entropy,
    "focal": focal,
    "dice": dice,
    "dice-squared": functools.partial(dice, squared=True),
    "tversky": tversky,
}
_OF_PIXELS = ("cross-entropy", "focal")


def loss_terms(names: str, class_weights: Sequence[float] = ()) -> dict[str, Loss]:
    """The losses whose sum a text such as "cross-entropy+dice" names, by their names.

    class_weights: of the losses that are means over pixels. Raises UsageError E-OPTION.
    """
    terms: dict[str, Loss] = {}
    for name in names.split("+"):
        if name not in LOSSES or name in terms:
            allowed = f"{', '.join(LOSSES)}, or a sum such as cross-entropy+dice"
            raise UsageError("E-OPTION", option="--loss", value=names, allowed=allowed)
        options = {"class_weights": class_weights} if name in _OF_PIXELS else {}
        terms[name] = functools.partial(LOSSES[name], **options)
    return terms


def deep_supervision(
    loss: Loss, heads: Sequence[Tensor], labels: Tensor, weights: Sequence[float]
) -> Tensor:
    """The weighted sum of `loss` over the scores of several heads, each cropped to the labels.

    Lee et al. 2015, arXiv:1409.5185.
    """
    losses = [
        weight * loss(crop_to(head, labels), labels)
        for head, weight in zip(heads, weights, strict=True)
    ]
    return torch.stack(losses).sum()


def _by_class(logits: Tensor) -> Tensor:
    """Logits of each class, at least in single precision."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if logits.shape[1] > 1:
        return logits
    # The softmax of (0, x) is (1 - sigmoid x, sigmoid x): one formula for both heads.
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


def _entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """(n, rows, cols): -log of the certainty of each pixel's class, 0 where it is IGNORE."""
    losses: Tensor = F.cross_entropy(
        _by_class(logits), labels.long(), ignore_index=IGNORE, reduction="none"
    )
    return losses


def _weights(
    labels: Tensor, class_weights: Sequence[float], pixel_weights: Tensor | None
) -> Tensor:
    """(n, rows, cols): how much each pixel counts, IGNORE not at all."""
    labelled = labels != IGNORE
    weights = labelled.double()
    if class_weights:
        table = torch.tensor(class_weights, dtype=weights.dtype, device=labels.device)
        weights = weights * table[labels.long() * labelled]
    return weights if pixel_weights is None else weights * pixel_weights


def _mean(losses: Tensor, weights: Tensor) -> Tensor:
    weights = weights.to(losses.dtype)
    return (losses * weights).sum() / weights.sum().clamp(min=_LEAST)


def _shares(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Certainties and truth (n, classes, rows, cols) of the labelled pixels, 0 at others."""
    found = _by_class(logits).softmax(dim=1) * (labels != IGNORE).unsqueeze(1)
    classes = torch.arange(found.shape[1], device=labels.device).view(1, -1, 1, 1)
    return found, (labels.unsqueeze(1) == classes).to(found.dtype)


def _total(shares: Tensor) -> Tensor:
    return shares.sum(dim=(0, 2, 3))


def _mean_of_present(losses: Tensor, truth: Tensor) -> Tensor:
    present = _total(truth) > 0
    return (losses * present).sum() / present.sum().clamp(min=1)
