"""Scores of a model on the pictures that its training held out: `tilseg run`, then `evaluate`.

    python held_out.py MODEL IMAGES TRUTH [--objects] [--tta d4] [--connectivity 4]
                       [--border CLASS] [--radius PIXELS] [--groups A,B]

IMAGES and TRUTH hold a file for every name that the model's card holds out. TRUTH are masks of
classes, or with --objects label images, with which instances are compared: as the card tells them
apart, or what --border keeps apart, grown back by --radius. --groups takes only names in these subfolders. Prints a line of JSON a picture, and one
for all: pixels and objects of all together, dice by class, partitions on average.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Collection, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file

import tilseg
from tilseg.card import Card, read_card
from tilseg.metrics.objects import ObjectCounts
from tilseg.metrics.score import Score


def held_out(model: Path, groups: Collection[str] = ()) -> list[str]:
    """Names of the validation pictures in the card, of some groups alone where they are given."""
    names = read_card(model).training["images"]["validation"]
    return [name for name in names if not groups or name.rpartition("/")[0] in groups]


def scores(
    model: Path,
    images: Path,
    truth: Path,
    names: Iterable[str],
    *,
    objects: bool = False,
    tta: str = "none",
    rule: Any = "own",
    connectivity: int = 8,
) -> dict[str, Score]:
    """The score of each picture. rule: for instances; "own" is what the card says."""
    network = tilseg.load_model(model, device="cpu", tta=tta)
    regions = tilseg.RegionOptions(labels=True, instances=rule, connectivity=connectivity)
    found = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder, "picture.tilseg")
            source = tilseg.open_source(_only(images, name))
            plan = tilseg.make_plan(source, network, regions=regions if objects else None)
            tilseg.run(plan, result)
            predicted = result if objects else result / "mask.tif"
            found[name] = tilseg.evaluate(
                predicted, _only(truth, name), objects=objects, connectivity=connectivity
            )
    return found


def pooled(found: Iterable[Score]) -> dict[str, Any]:
    """Figures of several pictures, as plain JSON."""
    each = list(found)
    confusion = np.sum([np.array(one.confusion) for one in each], axis=0)
    parts = [[getattr(one.objects, field.name) for field in fields(ObjectCounts)] for one in each]
    objects = ObjectCounts(*map(sum, zip(*parts, strict=True)))
    right = confusion.diagonal()
    dice = 2 * right / (confusion.sum(axis=0) + confusion.sum(axis=1))
    return {
        "pictures": len(each),
        "dice": _rounded(dice),
        "dice_mean_of_pictures": _rounded(
            np.mean([[one.dice or 0 for one in score.classes] for score in each], axis=0)
        ),
        "pixel_error": round(float(1 - right.sum() / confusion.sum()), 4),
        "objects": objects.true_positives + objects.false_negatives,
        "f1": round(objects.f1 or 0, 4),
        "aji": round(objects.aji or 0, 4),
        "adapted_rand_error": _mean(score.partition.adapted_rand_error for score in each),
        "v_rand": _mean(score.partition.v_rand for score in each),
        "v_info": _mean(score.partition.v_info for score in each),
    }


def _only(folder: Path, name: str) -> Path:
    (path,) = folder.glob(f"{name}.*")
    return path


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 4) for value in values]


def _mean(values: Iterable[float | None]) -> float:
    return round(float(np.mean([value for value in values if value is not None])), 4)


def write_card(model: Path, card: Card) -> None:
    """Replace the card of a model file."""
    attempt = model.with_name(f"{model.name}.attempt")
    save_file(load_file(model), attempt, metadata=card.to_metadata())
    attempt.replace(model)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--objects", action="store_true")
    parser.add_argument("--tta", choices=["none", "d4"], default="none")
    parser.add_argument("--border", type=int)
    parser.add_argument("--radius", type=int, default=64)
    parser.add_argument("--connectivity", type=int, choices=[4, 8], default=8)
    parser.add_argument("--groups", type=lambda text: text.split(","), default=())
    given = parser.parse_args()
    rule = "own" if given.border is None else tilseg.Border(given.radius, given.border)
    names = held_out(given.model, given.groups)
    found = scores(
        given.model,
        given.images,
        given.truth,
        names,
        objects=given.objects,
        tta=given.tta,
        rule=rule,
        connectivity=given.connectivity,
    )
    for name, score in found.items():
        print(json.dumps({"picture": name} | pooled([score])))
    print(json.dumps({"picture": "all"} | pooled(found.values())))


if __name__ == "__main__":
    main()
