"""What every validation found: a line of `metrics.csv` each."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from tilseg.training.scores import Scores
from tilseg.training.trainer import Trainer

Line = dict[str, Any]


def line_of(trainer: Trainer, scores: Scores, rate: float, *, kept: bool) -> Line:
    """One validation as plain values.

    rate: million labelled pixels a second. loss: smoothed over some 50 steps, and each term of
    it. kept: whether these are the weights that the model file took.
    """
    summary = scores.summary()
    classes, _ = summary.pop("classes"), summary.pop("groups", None)
    return {
        "step": trainer.step,
        "seconds": round(trainer.seconds, 1),
        "learning_rate": trainer.rate,
        "mpix_per_s": round(rate, 3),
        "loss": trainer.loss,
        **{f"loss {name}": value for name, value in trainer.losses.items()},
        **summary | {"dice": scores.dice},
        **{f"dice {name}": figures["dice"] for name, figures in classes.items()},
        **{f"iou {name}": figures["iou"] for name, figures in classes.items()},
        "kept": int(kept),
    }


def to_csv(history: Sequence[Line]) -> str:
    """The lines as CSV with a head, lines ended by a line feed."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]) if history else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()
