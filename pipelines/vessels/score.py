"""Scores of the vessel model against both observers, written into its card.

    python score.py MODEL PREPARED

metrics.observers: on the held-out pictures, the model against the first observer, whom it was
trained on, and against the second, and the second against the first.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import tilseg
from tilseg.card import read_card

sys.path.append(str(Path(__file__).parents[1]))
import held_out


def observers(model: Path, prepared: Path) -> dict[str, Any]:
    """Dice of the vessels, of all held-out pictures together and on average."""
    names = held_out.held_out(model)
    first, second = prepared / "first", prepared / "second"
    each = {
        f"model_against_{truth.name}": held_out.scores(model, prepared / "images", truth, names)
        for truth in (first, second)
    }
    each["second_against_first"] = {
        name: tilseg.evaluate(second / f"{name}.tif", first / f"{name}.tif") for name in names
    }
    return {who: _vessels(list(found.values())) for who, found in each.items()}


def _vessels(found: list[Any]) -> dict[str, Any]:
    figures = held_out.figures(found)
    return {
        "images": figures["pictures"],
        "dice": figures["dice"][1],
        "dice_mean_of_images": figures["dice_mean_of_pictures"][1],
    }


def main() -> None:
    model, prepared = map(Path, sys.argv[1:])
    card, found = read_card(model), observers(model, prepared)
    metrics = card.metrics | {"observers": found}
    held_out.write_card(model, card.model_copy(update={"metrics": metrics}))
    for who, figures in found.items():
        print(who, figures)


if __name__ == "__main__":
    main()
