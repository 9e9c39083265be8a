"""Scores of the nuclei model that its training does not give, written into its card.

    python score.py DSB2018 PREPARED MODEL

metrics.real: the held-out pictures without the made ones. metrics.apart: bright-field smears,
which no step of the training saw. metrics.objects: nuclei of the real held-out pictures found one
by one, with those that touch joined and told apart. The card says to tell them apart.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from safetensors.torch import load_file, save_file

import tilseg
from tilseg.card import Card, read_card
from tilseg.metrics.objects import ObjectCounts, count_objects
from tilseg.metrics.overlap import Overlaps
from tilseg.model import load_model
from tilseg.training.config import Data, TrainingClass
from tilseg.training.dataset import open_dataset
from tilseg.training.samples import Sample
from tilseg.training.scores import validate

NAMES = ("background", "nucleus")
CLASSES = tuple(TrainingClass(name=name) for name in NAMES)
MADE = "immuno"
# Depth 0.75 had the best AJI of those with all but the best F1, on the training pictures.
INSTANCES = tilseg.Watershed(depth=0.75)
WAYS = {"joined": None, "told_apart": INSTANCES}
FIELDS = fields(ObjectCounts)


def scores(model: Path, prepared: Path) -> dict[str, Any]:
    """The two further scores of the model."""
    network = load_model(model, device="cpu")
    real = [s for s in _samples(prepared)[1] if s.group != MADE]
    apart = [sample for part in _samples(prepared / "apart") for sample in part]
    parts = {"real": real, "apart": apart}
    return {name: validate(network, part).summary() for name, part in parts.items()}


def object_scores(model: Path, prepared: Path, labels: Path) -> dict[str, Any]:
    """F1 at an IoU of 0.5 and AJI over the nuclei of all real held-out pictures together."""
    names = [s.name for s in _samples(prepared)[1] if s.group != MADE]
    pictures = [_counts(model, prepared / "images" / f"{n}.tif", labels) for n in names]
    found: dict[str, Any] = {"images": len(names)}
    for way in WAYS:
        parts = [[getattr(each[way], field.name) for field in FIELDS] for each in pictures]
        total = ObjectCounts(*map(sum, zip(*parts, strict=True)))
        found[way] = {"f1": round(total.f1 or 0, 4), "aji": round(total.aji or 0, 4)}
    return found


def _counts(model: Path, picture: Path, labels: Path) -> dict[str, ObjectCounts]:
    """The objects of one picture, for each way."""
    truth, found = tifffile.imread(labels / picture.name), {}
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "picture.tilseg")
        network = load_model(model, device="cpu")
        tilseg.run(tilseg.make_plan(tilseg.open_source(picture), network, regions=None), result)
        for way, rule in WAYS.items():
            options = tilseg.RegionOptions(labels=True, instances=rule)
            tilseg.measure(result, output=Path(folder, "found"), regions=options)
            predicted = zarr.open_group(Path(folder, "found", "labels.zarr"), mode="r")["0"][:]
            found[way] = count_objects(overlaps(predicted, truth), 1)[1]
    return found


def overlaps(predicted: np.ndarray, truth: np.ndarray) -> Overlaps:
    """What two label images share; every object is of class 0."""
    truth = np.unique(truth, return_inverse=True)[1].reshape(truth.shape)
    objects = int(predicted.max()) + 1, int(truth.max()) + 1
    cells = np.bincount((truth * objects[0] + predicted).ravel())
    filled = np.flatnonzero(cells)
    theirs, ours = np.divmod(filled, objects[0])
    codes = [np.append(-1, np.zeros(count - 1, np.int64)) for count in objects]
    ignored = [np.zeros(count, np.int64) for count in objects]
    return Overlaps(ours, theirs, cells[filled], *codes, *ignored)


def _samples(folder: Path) -> tuple[list[Sample], list[Sample]]:
    images, masks = (str(folder / name) for name in ("images", "masks"))
    data = open_dataset(Data(images=images, masks=masks, orient="bright-on-dark"), CLASSES)
    return list(data.training), list(data.validation)


def write_card(model: Path, card: Card) -> None:
    """Replace the card of a model file."""
    attempt = model.with_name(f"{model.name}.attempt")
    save_file(load_file(model), attempt, metadata=card.to_metadata())
    attempt.replace(model)


def main() -> None:
    source, prepared, model = map(Path, sys.argv[1:])
    card = read_card(model)
    further = scores(model, prepared)
    objects = {"objects": object_scores(model, prepared, source / "labels")}
    metrics = card.metrics | further | objects
    write_card(model, card.model_copy(update={"metrics": metrics, "instances": INSTANCES}))
    for name, figures in further.items():
        print(f"{name}: Dice {figures['dice']}, {figures['images']} pictures")
    print(objects)


if __name__ == "__main__":
    main()
