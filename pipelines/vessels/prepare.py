"""Fundus pictures of CHASE_DB1 and their two observers' vessels, for `tilseg train`.

    python prepare.py CHASE_DB1 PREPARED

CHASE_DB1 holds Image_NNL.jpg and Image_NNR.jpg, the eyes of child NN, with the vessels that two
observers drew: Image_NNX_1stHO.png and Image_NNX_2ndHO.png. PREPARED gets images/NNX.jpg, first/NNX.tif and
second/NNX.tif, where 0 is background and 1 is vessel, and vessels.csv, the table that `tilseg train`
takes: both eyes of the children HELD_OUT are for validation.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

HELD_OUT = ("06", "07")
OBSERVERS = {"first": "1stHO", "second": "2ndHO"}


def prepare(source: Path, target: Path) -> int:
    """Convert every picture of the folder; returns how many."""
    rows = ["image,mask,split"]
    pictures = sorted(source.glob("Image_*.jpg"))
    for part in ("images", *OBSERVERS):
        (target / part).mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        name = picture.stem.removeprefix("Image_")
        shutil.copyfile(picture, target / "images" / f"{name}.jpg")
        for folder, suffix in OBSERVERS.items():
            vessels = np.asarray(Image.open(source / f"{picture.stem}_{suffix}.png")) > 0
            mask = target / folder / f"{name}.tif"
            tifffile.imwrite(mask, vessels.astype(np.uint8), compression="deflate")
        part = "validation" if name[:2] in HELD_OUT else "training"
        rows.append(f"images/{name}.jpg,first/{name}.tif,{part}")
    (target / "vessels.csv").write_text("\n".join(rows) + "\n")
    return len(pictures)


if __name__ == "__main__":
    print(f"{prepare(*map(Path, sys.argv[1:3]))} pictures prepared")
