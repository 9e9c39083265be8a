"""`training.html`: the course of a training, what its model gets right and wrong, how to repeat it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilseg.card import Card
from tilseg.metrics import pictures
from tilseg.metrics.score import Score
from tilseg.metrics.summary import (
    OBJECT_HEADS,
    PIXEL_HEADS,
    label,
    object_cells,
    overall,
    pixel_cells,
)
from tilseg.pages.page import inline, png_width, render
from tilseg.training.config import Config
from tilseg.training.curves import HEIGHT, WIDTH, Chart, chart
from tilseg.training.gallery import Gallery, Shown
from tilseg.training.history import Line

_WORDS = {
    "dice": "Dice of the objects",
    "mean_iou": "mean IoU",
    "object_f1": "object F1",
    "boundary_f1": "boundary F1",
}


@dataclass(frozen=True, slots=True)
class Kept:
    """The weights that the model file holds: its card, their score on the validation images, and
    the best and worst patches."""

    card: Card
    score: Score
    gallery: Gallery


def training_page(
    kept: Kept, history: Sequence[Line], config: Config, *, state: str, augmented: bytes
) -> str:
    """The page. state: of the training, in words. augmented: the contact sheet, a PNG."""
    card, score = kept.card, kept.score
    confusion = pictures.confusion_picture(score)
    counted = [(each, label(each), each.objects) for each in score.classes]
    return render(
        Path(__file__).with_name("training.html.j2"),
        card=card,
        score=score,
        state=state,
        images={part: len(names) for part, names in card.training["images"].items()},
        charts=_charts(history),
        chart_width=WIDTH,
        chart_height=HEIGHT,
        dice=f"{card.metrics['dice']:.4f}",
        overall=overall(score),
        pixel_heads=PIXEL_HEADS,
        classes=[(each, name, pixel_cells(each)) for each, name, _ in counted],
        object_heads=OBJECT_HEADS,
        objects=[(each, name, object_cells(found)) for each, name, found in counted if found],
        confusion=inline(confusion),
        confusion_width=round(png_width(confusion) / 1.5),
        named=len(score.classes) <= pictures.MOST_NAMED,
        galleries=[
            ("Where it is worst", _pictures(kept.gallery.worst())),
            ("Where it is best", _pictures(kept.gallery.best())),
        ],
        augmented=inline(augmented),
        choices=as_toml(config),
    )


def _charts(history: Sequence[Line]) -> list[Chart]:
    steps = [line["step"] for line in history]
    names = list(history[0]) if history else []

    def curve(name: str) -> list[float | None]:
        return [line[name] for line in history]

    losses = {name.removeprefix("loss "): curve(name) for name in names if name.startswith("loss ")}
    classes = {
        name.removeprefix("dice "): curve(name) for name in names if name.startswith("dice ")
    }
    scores = {words: curve(name) for name, words in _WORDS.items() if name in names}
    return [
        chart("Training loss", steps, losses),
        chart("Validation", steps, scores, top=1.0),
        chart("Validation: Dice by class", steps, classes, top=1.0),
        chart("Learning rate", steps, {"learning rate": curve("learning_rate")} if names else {}),
    ]


def _pictures(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    return [
        {
            "name": one.sample,
            "window": str(one.window),
            "wrong": f"{100 * one.wrong:.1f} %",
            "pictures": [
                ("image", inline(one.image)),
                ("truth", inline(one.truth)),
                ("prediction", inline(one.predicted)),
            ],
        }
        for one in shown
    ]


def as_toml(config: Config) -> str:
    """The file of a training, every choice written out but where its data lie and its output goes."""
    content = config.recipe()
    tables = {name: content.pop(name) for name in list(content) if not _is_plain(content[name])}
    lines = list(_keys(content))
    for name, table in tables.items():
        heads = (
            [(f"[[{name}]]", row) for row in table]
            if isinstance(table, list)
            else [(f"[{name}]", table)]
        )
        for head, row in heads:
            lines += ["", head, *_keys(row)]
    return "\n".join(lines)


def _is_plain(value: Any) -> bool:
    return not isinstance(value, dict | list)


def _keys(table: dict[str, Any]) -> list[str]:
    """`key = value` of all that is something; what JSON writes for plain values is TOML too."""
    return [
        f"{name.replace('_', '-')} = {_written(value)}"
        for name, value in table.items()
        if value not in (None, [], {})
    ]


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_written(own)}' for key, own in value.items())} }}"
    return json.dumps(value, ensure_ascii=False)
