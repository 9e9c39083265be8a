"""OpenSlide's reading of a TIFF slide against tifffile's: the same pixels, and how fast.

python benchmarks/slides.py SLIDE.svs
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from tilseg.choice import Choice
from tilseg.source import Source, open_source
from tilseg.sources.openslide import OpenSlideSource
from tilseg.window import Window

SIDE, STEP, REPEATS = 764, 572, 3


def megapixels_a_second(source: Source) -> float:
    """Of windows as a network reads them, inside the image; the best of some rounds."""
    rows, cols = source.shape
    windows = [
        Window(row, col, SIDE, SIDE)
        for row in range(0, rows - SIDE, STEP)
        for col in range(0, cols - SIDE, STEP)
    ]
    seconds = []
    for _ in range(REPEATS):
        source.close()
        start = time.perf_counter()
        for window in windows:
            source.read(window)
        seconds.append(time.perf_counter() - start)
    return len(windows) * SIDE * SIDE / 1e6 / min(seconds)


def main(path: Path) -> None:
    sources = open_source(path), OpenSlideSource(path, Choice())
    for source in sources:
        print(f"{source.reader}: {megapixels_a_second(source):.0f} Mpix/s")
    whole = Window.whole(sources[0].shape)
    ours, theirs = (source.read(whole).astype(int) for source in sources)
    print(f"largest difference: {np.abs(ours - theirs).max()} grey levels")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
