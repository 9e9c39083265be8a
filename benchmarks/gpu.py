"""A GPU: how exact it is beside the CPU, and how near it comes to what it could do.

    python benchmarks/gpu.py [--device cuda] [--widths 16,32,64] [--inputs 572,1084,2048,4096]
        [--seconds 1] [--noise 1021] [--image sample_data/slide.tif]

First labels of noise and of a slide, by the bundled model of nuclei, against float32 on the CPU in
the same tiles: pixels that differ, the widest margin of the two best scores among those, and pixels
that differ when it is done again. Then the rates of U-Nets of depth 4 from pixels in host memory to
classes there, beside the bare network with its input on the device: as it is, in the other layout of
memory, and replayed as a CUDA graph. The limit is that of limit.py. It takes a few minutes; exit 8
where there is no such device.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import model_file, show

import tilseg
from tilseg.budget import usable_cpus
from tilseg.cli import failing
from tilseg.errors import ResourceError
from tilseg.model import BandStatistics, find_model
from tilseg.models.cost import matrix_rate, operations, operations_per_pixel
from tilseg.models.devices import resolve_device
from tilseg.models.network import load
from tilseg.models.probe import tiled_logits
from tilseg.models.torch_model import TorchModel
from tilseg.plan import TileGrid
from tilseg.verbs.bench import prediction_rate
from tilseg.window import Size, Window, read_mirrored

PRECISIONS = ("fp32", "bf16")
TILE = 384
ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--widths", type=_numbers, default=_numbers("16,32,64"))
    parser.add_argument("--inputs", type=_numbers, default=_numbers("572,1084,2048,4096"))
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--noise", type=int, default=1021)
    parser.add_argument("--image", default=str(ROOT / "sample_data" / "slide.tif"))
    asked = parser.parse_args()
    try:
        device = resolve_device(asked.device)
    except ResourceError as error:
        failing.show(error, as_json=False)
        sys.exit(error.exit_code)
    name = torch.cuda.get_device_name(device) if device != "cpu" else device
    images = {"noise": _noise(asked.noise)}
    if asked.image != "none":
        images[Path(asked.image).name] = _pixels(asked.image)
    _show_exactness(device, name, images)
    _show_rates(device, name, asked.widths, asked.inputs, asked.seconds)


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def _noise(side: int) -> np.ndarray:
    """Dark blots on a light ground, (side, side, 3)."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    blots = gaussian_filter(rng.standard_normal((side, side, 3)), (4, 4, 0))
    return np.clip(160 + 60 * blots / blots.std(), 0, 255).astype(np.uint8)


def _pixels(path: str) -> np.ndarray:
    source = tilseg.open_source(path)
    try:
        return source.read(Window.whole(source.shape), 0, (0, 1, 2))
    finally:
        source.close()


# ---- exactness


def _show_exactness(device: str, name: str, images: dict[str, np.ndarray]) -> None:
    file, cpus = find_model("nuclei"), usable_cpus()
    cpu = load(file, device="cpu", threads=cpus)
    rows = []
    for image, pixels in images.items():
        plan = tilseg.make_plan(tilseg.open_source(pixels), cpu, tile=TILE, regions=None)
        expected = _labels(cpu, pixels, plan.statistics)
        best = np.sort(tiled_logits(cpu, pixels, plan.statistics, TILE), axis=0)
        margin = best[-1] - best[-2] if len(best) > 1 else np.abs(best[0])
        for precision in PRECISIONS:
            model = load(file, device=device, precision=precision, threads=cpus)
            found = _labels(model, pixels, plan.statistics)
            again = _labels(model, pixels, plan.statistics)
            differ = found != expected
            rows.append(
                (
                    image,
                    precision,
                    expected.size,
                    int(differ.sum()),
                    f"{margin[differ].max(initial=0):.2g}",
                    int((found != again).sum()),
                )
            )
    show(
        f"Labels beside those of the CPU in float32: {name}",
        ("image", "precision", "pixels", "differ", "widest margin of them", "differ again"),
        rows,
    )


def _labels(model: TorchModel, pixels: np.ndarray, statistics: BandStatistics) -> np.ndarray:
    """(rows, cols) of an image, two tiles on their way at once."""
    shape = Size(*pixels.shape[:2])
    found = np.empty(shape, np.uint8)

    def predict(tile: Any) -> None:
        window = read_mirrored(lambda inside: pixels[inside.slices], tile.read, shape)
        rows, cols = tile.write.size
        found[tile.write.slices] = model.predict(window[None], statistics).labels[0, :rows, :cols]

    grid = TileGrid(shape, model.field, Size(TILE, TILE), Size(1, 1))
    with ThreadPoolExecutor(1 if model.device == "cpu" else 2) as pool:
        list(pool.map(predict, [block.tiles[0] for block in grid]))
    return found


# ---- rates


def _show_rates(
    device: str, name: str, widths: list[int], inputs: list[int], seconds: float
) -> None:
    cpus = usable_cpus()
    matrices = {
        precision: matrix_rate(device, precision, cpus, seconds) for precision in PRECISIONS
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for width in widths:
            file = model_file(Path(folder) / f"{width}.safetensors", width=width)
            for precision in PRECISIONS:
                model = load(file, device=device, precision=precision, threads=cpus)
                for step in _steps(model, inputs):
                    figures = _figures(model, step, matrices[precision], seconds)
                    rows.append((width, precision, model.field.input_for(step), *figures))
    show(
        f"Rates of U-Nets of depth 4: {name}",
        (
            *("width", "precision", "input", "Mpix/s", "of the bare network", "of the limit"),
            *("the halo leaves", "bare Mpix/s", "channels first", "as a graph"),
        ),
        rows,
        tflops={precision: round(rate / 1e12, 2) for precision, rate in matrices.items()},
    )


def _steps(model: TorchModel, inputs: list[int]) -> list[int]:
    """The steps of the largest inputs up to each of `inputs` that fit the device."""
    field, largest = model.field, model.largest_input()
    steps = [field.step_below(side - 2 * field.halo) for side in inputs]
    return [step for step in steps if step > 0 and field.input_for(step) <= largest]


def _figures(model: TorchModel, step: int, matrices: float, seconds: float) -> tuple[str, ...]:
    side = model.field.input_for(step)
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    source = tilseg.open_source(pixels)
    plan = tilseg.make_plan(source, model, tile=step, memory=10**12, regions=None)
    rate = prediction_rate(model, plan, pixels, 1 if model.device == "cpu" else 2, seconds)
    bare, other, graph = (step**2 / each for each in _bare_seconds(model, side, seconds))
    endless = operations_per_pixel(model.card)
    return (
        _mega(rate),
        f"{rate / bare:.3f}",
        f"{rate * endless / matrices:.3f}",
        f"{endless * step**2 / operations(model.card, side, side):.3f}",
        _mega(bare),
        _mega(other),
        _mega(graph),
    )


def _mega(rate: float) -> str:
    return "" if math.isnan(rate) else f"{rate / 1e6:.3f}"


@torch.inference_mode()
def _bare_seconds(model: TorchModel, side: int, seconds: float) -> tuple[float, float, float]:
    """Seconds of one input, already on the device: as the model has it, channels first, and as a
    CUDA graph; the last is NaN where there is none."""
    x = torch.randn(1, model.card.bands, side, side, device=model.device, dtype=model.dtype)
    last, network = x.to(memory_format=torch.channels_last), model.network
    first = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    timed = partial(_seconds, device=model.device, seconds=seconds)
    ours, other = timed(partial(network, last)), timed(partial(first, x))
    del first
    return ours, other, timed(_graph(network, last)) if model.device != "cpu" else math.nan


def _graph(network: torch.nn.Module, x: torch.Tensor) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(x)
    return graph.replay


def _seconds(run: Callable[[], object], *, device: str, seconds: float) -> float:
    """Of one call among so many that they take about `seconds`, launched one behind the other."""
    wait = torch.get_device_module(device).synchronize
    took, calls = 0.0, 1
    for _ in range(3):
        wait()
        began = time.perf_counter()
        for _ in range(calls):
            run()
        wait()
        took = (time.perf_counter() - began) / calls
        calls = max(1, int(seconds / took))
    return took


if __name__ == "__main__":
    main()
