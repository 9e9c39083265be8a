"""Nuclei pictures and instance labels into images and class masks for `tilseg train`.

    python prepare.py DSB2018 PREPARED

DSB2018 holds images/NAME.png (RGB or RGBA), labels/NAME.tif (0 and instance numbers) and
index.csv with the columns file and kind. PREPARED gets images/KIND/NAME.tif (RGB, uint8) and
masks/KIND/NAME.tif (0 background, 1 nucleus, 2 border of a nucleus): `tilseg train` splits and scores
each kind apart. nuclei/KIND/NAME.tif holds the instance numbers, for `tilseg evaluate --objects`.
Bright-field smears go to PREPARED/apart instead, for they are scored but not trained on.

The kind "immuno" is made: the stained pictures again, in blue with brown (DAB) cytoplasm, so
that the network learns that brown is no nucleus. It has the names of "stained", and groups of
equal names are split alike: what is held out of one is held out of the other.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter
from scipy.special import expit
from skimage.color import hed2rgb
from skimage.segmentation import find_boundaries

KINDS = {"fluo": "fluorescence", "purple_HE": "stained", "gray_bf": "brightfield"}


def prepare(source: Path, target: Path) -> int:
    """Convert every picture that the index names; returns how many."""
    with (source / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for index, row in enumerate(rows):
        name, kind = row["file"], KINDS[row["kind"]]
        part = target / "apart" if kind == "brightfield" else target
        picture = imagecodecs.png_decode((source / "images" / f"{name}.png").read_bytes())
        numbers = tifffile.imread(source / "labels" / f"{name}.tif").astype(np.uint16)
        _write(part / "images" / kind / f"{name}.tif", picture[..., :3], "rgb")
        mask = with_borders(numbers)
        _write(part / "masks" / kind / f"{name}.tif", mask, "minisblack")
        _write(part / "nuclei" / kind / f"{name}.tif", numbers, "minisblack")
        if kind == "stained":
            brown = with_brown(picture[..., :3], numbers > 0, np.random.default_rng(index))
            _write(target / "images" / "immuno" / f"{name}.tif", brown, "rgb")
            _write(target / "masks" / "immuno" / f"{name}.tif", mask, "minisblack")
            _write(target / "nuclei" / "immuno" / f"{name}.tif", numbers, "minisblack")
    return len(rows)


def with_borders(labels: np.ndarray) -> np.ndarray:
    """Nuclei as 1, their outermost two pixels as 2: only one of a nucleus that has no more."""
    inner = labels
    for _ in range(2):
        edge = find_boundaries(inner, connectivity=2, mode="inner")
        kept = np.unique(inner[~edge])
        inner = np.where(edge & np.isin(inner, kept), 0, inner)
    return np.where(inner > 0, 1, 2 * (labels > 0)).astype(np.uint8)


def with_brown(picture: np.ndarray, nuclei: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A haematoxylin picture with its stain paler and blue, and DAB where no nuclei are.

    Stains are added as optical densities (Ruifrok and Johnston 2001, as in scikit-image). The
    brown lies in patches the size of glands, streaked, and leaves a veil over nuclei.
    """
    # Haematoxylin is what absorbs red.
    blue = -np.log10((picture[..., 0] + 1.0) / 256)
    blue *= rng.uniform(0.03, 0.1) / np.percentile(blue, 99.5)
    gland = expit(4 * (_noise(nuclei.shape, rng.uniform(20, 45), rng) + rng.uniform(-0.5, 0.7)))
    streaks = np.exp(0.35 * _noise(nuclei.shape, rng.uniform(1, 6, 2), rng))
    veil = 1 - rng.uniform(0.3, 0.9) * gaussian_filter(nuclei.astype(float), 1)
    brown = rng.uniform(0.04, 0.13) * gland * streaks * veil
    rgb = hed2rgb(np.stack([blue, np.zeros_like(blue), brown], axis=-1))
    return (255 * rgb).round().astype(np.uint8)


def _noise(shape: tuple[int, ...], sigma: float | np.ndarray, rng: np.random.Generator):
    """Smooth noise of mean 0 and deviation 1."""
    smooth = gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return smooth / smooth.std()


def _write(path: Path, pixels: np.ndarray, photometric: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels, photometric=photometric, compression="deflate")


if __name__ == "__main__":
    print(f"{prepare(*map(Path, sys.argv[1:3]))} pictures prepared")
