"""What a lower precision wins and what it costs: network seconds and other labels, on real images.

    python benchmarks/precision.py IMAGE... [--model nuclei] [--rounds 3] [--threads 1]

Every image is run in each precision in turn, to a mask alone. Seconds are of the blocks (reading,
network, writing), medians over the rounds; labels are compared with those of float32, pixel by
pixel.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import show

import tilseg
from tilseg.models.network import precisions
from tilseg.sinks.zarr import MaskStore
from tilseg.window import Window


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--tile", type=int)
    asked = parser.parse_args()
    rows = []
    for image in asked.images:
        with tempfile.TemporaryDirectory() as folder:
            rows += compare(image, asked, Path(folder))
    show(
        f"Precision: {asked.model}",
        ("image", "megapixels", "precision", "predict, s", "times faster", "other labels"),
        rows,
    )


def compare(image: Path, asked: argparse.Namespace, folder: Path) -> list[tuple[Any, ...]]:
    seconds: dict[str, list[float]] = {}
    masks: dict[str, np.ndarray] = {}
    for number in range(asked.rounds):
        for precision in precisions(tilseg.load_model(asked.model).uri, "cpu"):
            output = folder / f"{precision}-{number}.tilseg"
            source = tilseg.open_source(image)
            model = tilseg.load_model(asked.model, device="cpu", precision=precision)
            plan = tilseg.make_plan(
                source,
                model,
                precision=precision,
                threads=asked.threads,
                tile=asked.tile,
                regions=None,
            )
            report = tilseg.run(plan, output, outputs=("zarr",))
            source.close()
            seconds.setdefault(precision, []).append(report.summary["seconds"]["predict"])
            store = MaskStore.open(output / "mask.zarr")
            masks[precision] = store.read(Window.whole(store.shape))
    exact = masks["fp32"]
    first = statistics.median(seconds["fp32"])
    return [
        (
            image.name,
            f"{exact.size / 1e6:.1f}",
            precision,
            f"{statistics.median(taken):.2f}",
            f"{first / statistics.median(taken):.2f}",
            f"{100 * (masks[precision] != exact).mean():.3f} %",
        )
        for precision, taken in seconds.items()
    ]


if __name__ == "__main__":
    main()
