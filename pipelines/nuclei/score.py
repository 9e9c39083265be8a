"""Scores of the nuclei model that its training does not give, written into its card.

    python score.py PREPARED MODEL

metrics.real: the held-out pictures without the made ones. metrics.apart: bright-field smears,
which no step of the training saw.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from tilseg.card import Card, read_card
from tilseg.model import load_model
from tilseg.training.dataset import open_dataset
from tilseg.training.samples import Sample
from tilseg.training.scores import validate

CLASSES = ("background", "nucleus")
MADE = "immuno"


def scores(model: Path, prepared: Path) -> dict[str, Any]:
    """The two further scores of the model."""
    network = load_model(model, device="cpu")
    real = [s for s in _samples(prepared)[1] if s.group != MADE]
    apart = [sample for part in _samples(prepared / "apart") for sample in part]
    parts = {"real": real, "apart": apart}
    return {name: validate(network, part).summary(CLASSES) for name, part in parts.items()}


def _samples(folder: Path) -> tuple[list[Sample], list[Sample]]:
    data = open_dataset(
        folder / "images", folder / "masks", classes=CLASSES, orient="bright-on-dark"
    )
    return list(data.training), list(data.validation)


def write_card(model: Path, card: Card) -> None:
    """Replace the card of a model file."""
    attempt = model.with_name(f"{model.name}.attempt")
    save_file(load_file(model), attempt, metadata=card.to_metadata())
    attempt.replace(model)


def main() -> None:
    prepared, model = Path(sys.argv[1]), Path(sys.argv[2])
    card = read_card(model)
    further = scores(model, prepared)
    write_card(model, card.model_copy(update={"metrics": card.metrics | further}))
    for name, figures in further.items():
        print(f"{name}: Dice {figures['dice']}, {figures['images']} pictures")


if __name__ == "__main__":
    main()
