"""Slices of the ISBI 2012 stack and their labels, for `tilseg train` and `tilseg evaluate`.

    python prepare.py ISBI2012 PREPARED

ISBI2012 holds image/NN.png and label/NN.png, where 255 is the inside of a cell and 0 its membrane.
PREPARED gets images/NN.png, brought to where the labels are drawn (see `offset.py`), masks/NN.tif
(0 membrane, 1 cell) and cells/NN.tif: the cells by number, pixels joined over edges.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from skimage.measure import label

sys.path.append(str(Path(__file__).parent))
from offset import moved

# Rows and columns by which labels lie off their images, as `offset.py` measures on the slices that
# are trained on.
OFFSET = (-0.6, -0.2)


def prepare(source: Path, target: Path) -> int:
    """Convert every slice; returns how many."""
    slices = sorted((source / "image").glob("*.png"))
    for part in ("images", "masks", "cells"):
        (target / part).mkdir(parents=True, exist_ok=True)
    for path in slices:
        brought = moved(np.asarray(Image.open(path)), OFFSET)
        Image.fromarray(brought).save(target / "images" / path.name)
        mask = (np.asarray(Image.open(source / "label" / path.name)) > 127).astype(np.uint8)
        cells = label(mask, connectivity=1).astype(np.uint16)
        for part, pixels in (("masks", mask), ("cells", cells)):
            tifffile.imwrite(target / part / f"{path.stem}.tif", pixels, compression="deflate")
    return len(slices)


if __name__ == "__main__":
    print(f"{prepare(*map(Path, sys.argv[1:3]))} slices prepared")
