"""The threshold of a model of cells and membranes, chosen on the slices that it was trained on.

    python threshold.py MODEL PREPARED [grown | raw | pixels]

Writes into the card the certainty above which a pixel is a cell: of THRESHOLDS the one with the
lowest error on average over the training slices. That is the adapted Rand error of cells grown
together, the same of cells as they are, or the share of wrong pixels. Certainties are means over flips
and turns, as `tilseg run --tta d4` has them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile
import zarr

import tilseg
from tilseg.card import read_card

sys.path.append(str(Path(__file__).parents[1]))
import held_out

THRESHOLDS = tuple(round(0.3 + 0.05 * step, 2) for step in range(13))
ERRORS = ("grown", "raw", "pixels")
GROWN = tilseg.RegionOptions(labels=True, connectivity=4, instances=tilseg.Border(64, 0))


def certainty(model: Path, image: Path, folder: Path) -> np.ndarray:
    """(rows, cols) uint8: how certainly a pixel is a cell, 255 for certain."""
    network = tilseg.load_model(model, device="cpu", tta="d4")
    result = folder / "slice.tilseg"
    plan = tilseg.make_plan(tilseg.open_source(image), network, regions=None, probabilities=True)
    tilseg.run(plan, result)
    return zarr.open_group(result / "probabilities.zarr", mode="r")["0"][1]


def errors(found: np.ndarray, mask: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """(thresholds, 3): the errors of `ERRORS`."""
    rows = []
    for threshold in THRESHOLDS:
        predicted = (found > 255 * threshold).astype(np.uint8)
        raw = tilseg.evaluate(predicted, mask, connectivity=4)
        with tempfile.TemporaryDirectory() as folder:
            tilseg.measure(predicted, background=None, output=Path(folder, "grown"), regions=GROWN)
            grown = tilseg.evaluate(Path(folder, "grown"), cells, objects=True)
        partitions = (grown.partition, raw.partition)
        rows.append([*(each.adapted_rand_error for each in partitions), raw.pixel_error])
    return np.array(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("error", nargs="?", choices=ERRORS, default="grown")
    given = parser.parse_args()
    model, prepared = given.model, given.prepared
    card = read_card(model)
    each = []
    for name in card.training["images"]["training"]:
        with tempfile.TemporaryDirectory() as folder:
            found = certainty(model, prepared / "images" / f"{name}.png", Path(folder))
        truth = [tifffile.imread(prepared / part / f"{name}.tif") for part in ("masks", "cells")]
        each.append(errors(found, *truth))
    table = np.mean(each, axis=0)
    for threshold, row in zip(THRESHOLDS, table, strict=True):
        print(threshold, *(f"{value:.4f}" for value in row))
    best = THRESHOLDS[int(table[:, ERRORS.index(given.error)].argmin())]
    held_out.write_card(model, card.model_copy(update={"threshold": best}))
    print(f"threshold {best}")


if __name__ == "__main__":
    main()
