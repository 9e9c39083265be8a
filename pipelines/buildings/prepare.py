"""Aerial pictures of Dubai and the buildings in their coloured masks, for `tilseg train`.

    python prepare.py DUBAI PREPARED

DUBAI holds tileN/images/K.jpg and tileN/masks/K.png, in the colours of the set's legend. PREPARED gets
images/tileN-K.jpg, masks/tileN-K.tif (0 other, 1 building, 255 for colours that the legend lacks) and
buildings.csv, the table that `tilseg train` takes: the tile HELD_OUT is for validation.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

HELD_OUT = "tile1"
BUILDING = 0x3C1098
OTHERS = (0x9B9B9B, 0x8429F6, 0x6EC1E4, 0xFEDD3A, 0xE2A929)


def prepare(source: Path, target: Path) -> int:
    """Convert every part of every tile; returns how many."""
    rows = ["image,mask,split"]
    for part in ("images", "masks"):
        (target / part).mkdir(parents=True, exist_ok=True)
    for picture in sorted(source.glob("tile*/images/*.jpg")):
        tile = picture.parents[1]
        name = f"{tile.name}-{picture.stem}"
        shutil.copyfile(picture, target / "images" / f"{name}.jpg")
        colours = np.asarray(Image.open(tile / "masks" / f"{picture.stem}.png").convert("RGB"))
        mask = buildings(colours)
        tifffile.imwrite(target / "masks" / f"{name}.tif", mask, compression="deflate")
        side = "validation" if tile.name == HELD_OUT else "training"
        rows.append(f"images/{name}.jpg,masks/{name}.tif,{side}")
    (target / "buildings.csv").write_text("\n".join(rows) + "\n")
    return len(rows) - 1


def buildings(colours: np.ndarray) -> np.ndarray:
    """(rows, cols) uint8 of (rows, cols, 3) colours."""
    red, green, blue = np.moveaxis(colours.astype(np.uint32), -1, 0)
    code = red << 16 | green << 8 | blue
    mask = np.where(np.isin(code, OTHERS), 0, 255)
    return np.where(code == BUILDING, 1, mask).astype(np.uint8)


if __name__ == "__main__":
    print(f"{prepare(*map(Path, sys.argv[1:3]))} pictures prepared")
