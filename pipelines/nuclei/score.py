"""Scores of the nuclei model, nucleus by nucleus, written into its card.

    python score.py MODEL PREPARED

metrics.nuclei: by kind of picture, of the held-out ones and of all bright-field smears, which no
step of the training saw; `real` are the held-out pictures without the made ones. Dice is that of
nuclei with their borders. The card says how far nuclei grow back into the border class.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import tilseg
from tilseg.card import read_card
from tilseg.metrics.score import Score

sys.path.append(str(Path(__file__).parents[1]))
import held_out

# Borders are two pixels wide on either side; a ragged one is still reached.
INSTANCES = tilseg.Border(radius=4, border=2)
KINDS = ("fluorescence", "stained", "immuno", "brightfield")
REAL = ("fluorescence", "stained")


def scores(model: Path, prepared: Path) -> dict[str, Any]:
    """Figures of each kind, and of the real held-out pictures together."""
    names = held_out.held_out(model)
    apart = prepared / "apart"
    smears = [f"brightfield/{path.stem}" for path in (apart / "images").rglob("*.tif")]
    found = _found(model, prepared, names) | _found(model, apart, smears)
    kinds = {kind: [found[n] for n in found if n.startswith(kind)] for kind in KINDS}
    kinds["real"] = [score for kind in REAL for score in kinds[kind]]
    return {kind: _figures(each) for kind, each in kinds.items()}


def _found(model: Path, prepared: Path, names: list[str]) -> dict[str, Score]:
    truth = prepared / "nuclei"
    return held_out.scores(model, prepared / "images", truth, names, objects=True)


def _figures(each: list[Score]) -> dict[str, Any]:
    figures = held_out.figures(each)
    return {
        "images": figures["pictures"],
        "nuclei": figures["objects"],
        "dice": figures["dice"][1],
        "dice_mean_of_images": figures["dice_mean_of_pictures"][1],
        "f1": figures["f1"],
        "aji": figures["aji"],
    }


def main() -> None:
    model, prepared = map(Path, sys.argv[1:])
    card = read_card(model).model_copy(update={"instances": INSTANCES})
    held_out.write_card(model, card)
    found = scores(model, prepared)
    metrics = card.metrics | {"nuclei": found}
    held_out.write_card(model, card.model_copy(update={"metrics": metrics}))
    for kind, figures in found.items():
        print(kind, figures)


if __name__ == "__main__":
    main()
