"""Peak memory of `tilseg run` against the size of the image, each in a fresh process.

    python benchmarks/memory.py [--megapixels 25 100 400] [--memory 2GB] [--work DIR]

Also the time `tilseg plan` takes on an image of 8 gigapixels.
"""

from __future__ import annotations

import argparse
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from common import big_image, model_file, show

# Runs the command in this process and says how large the process has been.
_MEASURED = """
import resource, sys
from tilseg.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, file=sys.stderr)
    raise
"""


def peak_of_run(image: Sequence[str], model: Path, work: Path, memory: str) -> tuple[int, float]:
    """Peak resident bytes and seconds of one run; `image` are the arguments that name it."""
    output = work / "memory.tilseg"
    shutil.rmtree(output, ignore_errors=True)
    began = time.perf_counter()
    # One tile for all sizes: left to itself each image gets the one that wastes least at its
    # edges, and memory follows the tile.
    arguments = ["run", *image, "--model", model, "--memory", memory, "--tile", "896", "-o", output]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stderr)
    shutil.rmtree(output)
    return int(done.stderr.split("PEAK")[1]), seconds


def seconds_of_plan(model: Path, work: Path) -> float:
    """How long `tilseg plan` takes on 8 gigapixels, start-up included."""
    image = big_image(work / "8000.tif", 89_443, 89_443)
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "tilseg", "plan", str(image), "--model", str(model)],
        check=True,
        capture_output=True,
    )
    seconds = time.perf_counter() - began
    image.unlink()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=int, nargs="+", default=[25, 100, 400])
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())
    model = model_file(work / "width4.safetensors", width=4)
    rows = []
    for megapixels in options.megapixels:
        side = math.isqrt(megapixels * 10**6)
        image = big_image(work / f"{megapixels}.tif", side + 13, side - 11)
        peak, seconds = peak_of_run([str(image)], model, work, options.memory)
        rows.append((megapixels, round(peak / 1e6), round(seconds, 1)))
        image.unlink()
    ratio = rows[-1][1] / rows[0][1]
    show(
        f"Peak memory, width 4, budget {options.memory}",
        ("megapixels", "peak RSS, MB", "seconds"),
        rows,
        ratio=round(ratio, 3),
    )
    print(f"\nlargest over smallest: {ratio:.3f}")
    print(f"plan of 8 gigapixels: {seconds_of_plan(model, work):.2f} s, start-up included")
    if options.work is None:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
