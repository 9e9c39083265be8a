"""The network of tilseg against the same network in other libraries, on one CPU thread.

    pip install openvino nncf onnx onnxruntime
    python benchmarks/backends.py [--input 572] [--rounds 7] [--width 16] [--depth 4]

Pixels are in memory and normalised; each way predicts one input in turn. Milliseconds are CPU time, so
that other work on the machine counts less, medians of the rounds. NaN: whether scores show it where a
pixel is NaN.
Other labels: on a picture that comes with scikit-image, by the bundled `nuclei` model with the same
libraries, against its float32; integers are calibrated on a window of that picture.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import model_file, show

import tilseg
from tilseg.models.blocks import fold
from tilseg.models.int8 import Observer, prepared
from tilseg.models.network import build
from tilseg.models.torch_model import TorchModel
from tilseg.models.weights import parse, read

Ways = dict[str, Callable[[], np.ndarray]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=int, default=572)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--depth", type=int, default=4)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        folder = Path(name)
        file = model_file(folder / "model.safetensors", width=asked.width, depth=asked.depth)
        model = tilseg.load_model(file, device="cpu", threads=1)
        side = min(model.field.input_for(k) for k in range(16, 4096, 16) if k + 184 >= asked.input)
        pixels = torch.randn(1, 3, side, side)
        seconds = timed(ways(model, pixels, [pixels[..., :316, :316]], folder), asked.rounds)
        real = tilseg.load_model("nuclei", device="cpu", threads=1)
        picture, others = parts(real)
        spoilt = pixels.clone()
        spoilt[0, 0, side // 2, side // 2] = torch.nan
        told = {
            name: bool(np.isnan(predict()).any())
            for name, predict in ways(model, spoilt, [pixels[..., :316, :316]], folder).items()
        }
        labels = {
            name: predict().argmax(0)
            for name, predict in ways(real, picture, others, folder).items()
        }
    bf16, exact = seconds["tilseg bf16"], labels["tilseg fp32"]
    rows = [
        (
            name,
            f"{1000 * taken:.1f}",
            f"{seconds['tilseg fp32'] / taken:.2f}",
            f"{bf16 / taken:.2f}",
            f"{100 * (labels[name] != exact).mean():.3f} %",
            "told" if told[name] else "lost",
        )
        for name, taken in seconds.items()
    ]
    heads = ("way", "ms", "times tilseg fp32", "times tilseg bf16", "other labels", "NaN")
    show(f"One input of {side}: width {asked.width}, depth {asked.depth}, 1 thread", heads, rows)


def timed(ways: Ways, rounds: int) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 3):
        for name, predict in ways.items():
            began = time.process_time()
            predict()
            if number >= 3:  # the first find memory and kernels
                taken[name].append(time.process_time() - began)
    return {name: statistics.median(each) for name, each in taken.items()}


def parts(model: TorchModel) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A picture of stained tissue, normalised, and a window of it to calibrate on."""
    import skimage.data

    image = skimage.data.immunohistochemistry().astype(np.float32)
    side = max(model.field.input_for(k) for k in range(8, 424, 8))
    image = -(image - image.mean((0, 1))) / image.std((0, 1))
    x = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous(memory_format=torch.channels_last)
    return x[..., :side, :side], [x[..., -side:, -side:]]


def ways(model: TorchModel, x: torch.Tensor, windows: list[torch.Tensor], folder: Path) -> Ways:
    """Each way of predicting `x`: scores (channels, rows, cols) of the same weights."""
    x = x.contiguous(memory_format=torch.channels_last)
    half = tilseg.load_model(model.uri, device="cpu", precision="bf16", threads=1).network
    low = x.to(torch.bfloat16)
    network = build(model.card, model.uri)
    path = Path(model.uri)
    network.load_state_dict(parse(read(network, path), path), assign=True)
    folded = fold(network)
    observer = Observer(folded)
    for window in windows:
        observer(window)
    integers = prepared(folded, observer.ranges)
    found: Ways = {
        "tilseg fp32": partial(scores, model.network, x),
        "tilseg bf16": partial(scores, half, low),
        "tilseg int8": partial(scores, integers, x),
    }
    file = exported(folded.float(), x, folder / f"{path.stem}.onnx")
    quantised = onnx_int8(file, windows, x.shape[-1])
    return (
        found | dict(onnxruntime_ways(file, quantised, x)) | dict(openvino_ways(file, x, windows))
    )


def scores(network: torch.nn.Module, x: torch.Tensor) -> np.ndarray:
    return network(x)[0].float().numpy()


def exported(network: torch.nn.Module, x: torch.Tensor, file: Path) -> Path:
    torch.onnx.export(
        network, (x,), file, dynamo=False, input_names=["x"], output_names=["y"], opset_version=17
    )
    return file


def onnx_int8(file: Path, windows: list[torch.Tensor], side: int) -> Path:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            # The graph is of one size.
            self.left = iter({"x": fitted(window, side)} for window in windows)

        def get_next(self) -> Any:
            return next(self.left, None)

    target = file.with_suffix(".int8.onnx")
    quant_pre_process(file, file.with_suffix(".ready.onnx"))
    quantize_static(
        file.with_suffix(".ready.onnx"),
        target,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
    )
    return target


def fitted(window: torch.Tensor, side: int) -> np.ndarray:
    """A window mirrored to a size."""
    lacking = [(0, side - length) for length in window.shape[-2:]]
    return np.pad(window.numpy(), [(0, 0), (0, 0), *lacking], mode="reflect")


def onnxruntime_ways(
    file: Path, quantised: Path, x: torch.Tensor
) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    given = {"x": np.ascontiguousarray(x.numpy())}
    for name, each in (("fp32", file), ("int8", quantised)):
        session = onnxruntime.InferenceSession(str(each), options, ["CPUExecutionProvider"])
        yield f"onnxruntime {name}", lambda session=session: session.run(None, given)[0][0]


def openvino_ways(
    file: Path, x: torch.Tensor, windows: list[torch.Tensor]
) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    import nncf
    import openvino

    core = openvino.Core()
    given = np.ascontiguousarray(x.numpy())
    plain = core.read_model(file)
    data = nncf.Dataset([fitted(window, x.shape[-1]) for window in windows])
    integers = nncf.quantize(core.read_model(file), data, subset_size=len(windows))
    for name, graph, hint in (
        ("fp32", plain, "f32"),
        ("bf16", plain, "bf16"),
        ("int8", integers, "f32"),
    ):
        settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
        compiled = core.compile_model(graph, "CPU", settings)
        request = compiled.create_infer_request()
        yield f"OpenVINO {name}", lambda request=request: request.infer({0: given})[0][0].copy()


if __name__ == "__main__":
    main()
