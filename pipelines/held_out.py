"""Scores of a model on the pictures that its training held out: `tilseg run`, then `evaluate`.

    python held_out.py MODEL IMAGES TRUTH [--objects] [--tta d4] [--connectivity 4]
                       [--border CLASS] [--radius PIXELS] [--groups A,B]

IMAGES and TRUTH hold a file for every name that the model's card holds out. TRUTH are masks of
classes, or with --objects label images, with which instances are compared: as the card tells them
apart, or what --border keeps apart, grown back by --radius. --groups takes only names in these
subfolders. Prints a line of JSON a picture, and one for all: pixels and objects of all together,
dice by class, partitions on average.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

import tilseg
from tilseg.card import Card, read_card
from tilseg.metrics.confusion import mean
from tilseg.metrics.pooled import pooled
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


def figures(found: Collection[Score]) -> dict[str, Any]:
    """Figures of several pictures together, as plain JSON; their classes are the same."""
    each = list(found)
    total = pooled(each)
    return {
        "pictures": len(each),
        "dice": [_rounded(one.dice) for one in total.classes],
        "dice_mean_of_pictures": [
            _rounded(mean(score.classes[place].dice for score in each))
            for place in range(len(total.classes))
        ],
        "pixel_error": _rounded(total.pixel_error),
        "objects": total.objects.true_positives + total.objects.false_negatives,
        "f1": _rounded(total.objects.f1),
        "aji": _rounded(total.objects.aji),
        "adapted_rand_error": _rounded(total.partition.adapted_rand_error),
        "v_info": _rounded(total.partition.v_info),
    }


def _only(folder: Path, name: str) -> Path:
    (path,) = folder.glob(f"{name}.*")
    return path


def _rounded(value: float | None) -> float:
    return round(value or 0.0, 4)


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
        print(json.dumps({"picture": name} | figures([score])))
    print(json.dumps({"picture": "all"} | figures(found.values())))


if __name__ == "__main__":
    main()
