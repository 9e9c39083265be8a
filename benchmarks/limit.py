"""How near the network comes to what this machine's matrix products allow.

    python benchmarks/limit.py [--width 16] [--depth 4] [--seconds 3] [--megapixels 16]

The limit is the rate of large matrix products over the operations of a pixel of a tile without
end. For each precision: the tiles of `tilseg bench`, what the halo of each leaves of the limit, and
what is reached.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

from common import big_image, model_file, show

import tilseg


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--megapixels", type=float, default=16)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    side = math.isqrt(int(asked.megapixels * 1e6))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = big_image(folder / "image.tif", side, side)
        file = model_file(folder / "model.safetensors", width=asked.width, depth=asked.depth)
        source = tilseg.open_source(image)
        model = tilseg.load_model(file, device=asked.device)
        report = tilseg.bench(tilseg.make_plan(source, model, regions=None), seconds=asked.seconds)
        source.close()
    rows = [
        (
            rate.precision,
            f"{rate.tile.cols} x {rate.tile.rows}",
            f"{rate.at_once} x {rate.threads}",
            f"{rate.pixels / 1e6:.3f}",
            f"{rate.of_halo:.3f}",
            f"{rate.of_limit:.3f}",
        )
        for rate in report.rates
    ]
    best = {
        precision: max(rate.of_limit for rate in report.rates if rate.precision == precision)
        for precision in report.matrices
    }
    show(
        f"Of the limit: width {asked.width}, depth {asked.depth}, {asked.device}",
        ("precision", "tile", "at once x threads", "Mpix/s", "the halo leaves", "of the limit"),
        rows,
        best={precision: round(share, 4) for precision, share in best.items()},
        operations_per_pixel=round(report.operations),
        gflops={name: round(rate / 1e9, 1) for name, rate in report.matrices.items()},
    )


if __name__ == "__main__":
    main()
