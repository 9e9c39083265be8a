"""A PyTorch network as a tilseg `Model`: load, predict, save.

Only `.safetensors` files are read: they hold numbers and text, and loading one runs no code.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tilseg.card import Card, read_card
from tilseg.errors import ModelError, ResourceError, UsageError, nearest
from tilseg.heap import keep_freed_memory
from tilseg.model import ARCHITECTURES, BandStatistics, Precision, Prediction, Ranges, Tta
from tilseg.models import int8, scores, weights
from tilseg.models.blocks import Network, fold
from tilseg.models.devices import be_reproducible_on_cuda, cuda_devices, resolve_device
from tilseg.models.feed import Feed
from tilseg.models.symmetries import averaged
from tilseg.receptive_field import ReceptiveField
from tilseg.window import Size

# Of the network's input and output.
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.float32}
# Memory held over memory needed: gaps between blocks in a heap that is kept (see heap.py).
# Measured 1.1 to 1.7 over all up-samplings, widths 16 to 64.
_KEPT = 2.0
# Beyond these a larger input gains next to nothing: 1480 px on a CPU (measured), 4200 px where
# the halo is down to a tenth of the work.
_LARGEST_INPUT = {"cpu": 1480, "cuda": 4200}
# Of the input whose memory on a GPU is measured: large enough that what every input takes is small.
_MEASURED_INPUT = 1100


class TorchModel:
    """A network with its card, folded and ready to predict on one device.

    dtype: of weights and activations; float64 is for tests of exactness. Normalisation before
    them and all that follows the scores are float32, or float64 with it. threads: CPU threads
    of a prediction; None takes torch's own choice, and `threads` is then that number. tta: "d4"
    averages the probabilities over flips and quarter turns of the input. prepared: what to predict
    with instead of the folded network in that dtype, made from it.
    """

    def __init__(
        self,
        network: Network,
        card: Card,
        *,
        uri: str = "",
        sha256: str = "",
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        threads: int | None = None,
        tta: Tta = "none",
        prepared: Callable[[nn.Module], nn.Module] | None = None,
    ) -> None:
        if device != "cpu":
            be_reproducible_on_cuda()
        folded = fold(network).requires_grad_(False)
        self.network = prepared(folded) if prepared else _placed(folded, device, dtype)
        self.card = card
        self.uri = uri
        self.sha256 = sha256
        self.field: ReceptiveField = network.field
        self.device = device
        # For a device whose memory is not the host's.
        self.feed = None if device == "cpu" else Feed(device)
        self.dtype = dtype
        self.threads = threads or torch.get_num_threads()
        self.tta: Tta = tta
        self._wide = torch.float64 if dtype == torch.float64 else torch.float32
        self._live_elements = network.live_elements

    @torch.inference_mode()
    def predict(
        self,
        batch: NDArray[Any],
        statistics: BandStatistics,
        *,
        probabilities: bool = False,
    ) -> Prediction:
        """Classes of a batch of raw pixels (n, rows, cols, bands), any integer or float dtype.

        See `tilseg.models.scores` for ties, thresholds and rounding. Raises ValueError for a
        size that is not legal.
        """
        self._check(batch)
        step = functools.partial(
            self._answer, constants=self._constants(statistics), probabilities=probabilities
        )
        with _threads(self.threads):
            if self.feed is None:
                found = [step(pixels) for pixels in _tensor(batch)]
            else:
                found = [self.feed.run(step, pixels) for pixels in batch]
        labels, finite, *certain = zip(*found, strict=True)
        return Prediction(
            labels=_stack(labels),
            finite=_stack(finite),
            probabilities=_stack(certain[0]) if probabilities else None,
        )

    @torch.inference_mode()
    def logits(self, batch: NDArray[Any], statistics: BandStatistics) -> NDArray[Any]:
        """Scores of a batch as for `predict`: (n, channels, rows - 2 halo, cols - 2 halo).

        float32, or float64 of a float64 model. With averaging: of the mean probabilities, see
        `tilseg.models.symmetries`.
        """
        self._check(batch)
        constants = self._constants(statistics)
        with _threads(self.threads):
            return _stack([self._scores(raw, constants) for raw in _tensor(batch).to(self.device)])

    def working_bytes(self, size: Size) -> int:
        """Memory of the host that one prediction of one input of `size` takes beside the weights,
        from above."""
        if self.feed is not None:
            # Pixels and results in page-locked memory, which is had in powers of two.
            return 2 * size.area * (8 * self.card.bands + 1 + len(self.card.classes))
        around = 2 * self.card.bands + 3 * self.card.channels + 1  # pixels in, scores, classes
        if self.tta != "none":
            around += 2 * self.card.bands + 5 * max(2, self.card.channels)  # turned, and their mean
        activations = self._live_elements(*size) * self.dtype.itemsize
        return int(_KEPT * activations) + around * size.area * self._wide.itemsize

    def largest_input(self, processes: int = 1) -> int:
        """Pixels a side of the largest input that makes sense here: a larger one gains next to
        nothing, or does not fit a GPU, on which a small one is predicted at the first call.

        processes: that share the GPUs of this machine. Raises ResourceError E-MEMORY-DEVICE.
        """
        if self.feed is None:
            return _LARGEST_INPUT["cpu"]
        sharing = -(-processes // max(1, len(cuda_devices())))
        return min(_LARGEST_INPUT["cuda"], int(self._fitting_side / math.sqrt(sharing)))

    @functools.cached_property
    def _fitting_side(self) -> int:
        """Pixels a side of the largest input for which the GPU has room."""
        assert self.feed is not None
        step = max(self.field.stride, self.field.step_below(_MEASURED_INPUT - 2 * self.field.halo))
        side, bands = self.field.input_for(step), self.card.bands
        pixels = np.zeros((1, side, side, bands), np.float32)
        plain = BandStatistics((0.0,) * bands, (1.0,) * bands)
        return self.feed.largest_side(lambda: self.predict(pixels, plain, probabilities=True), side)

    def _check(self, batch: NDArray[Any]) -> None:
        for length in batch.shape[1:3]:
            self.field.output_of(length)  # refuses what is not legal

    def _constants(self, statistics: BandStatistics) -> tuple[Tensor, Tensor]:
        """Mean and std of each band, on the device."""
        mean = torch.tensor(statistics.mean, dtype=self._wide, device=self.device)
        return mean, torch.tensor(statistics.std, dtype=self._wide, device=self.device)

    def _answer(
        self, raw: Tensor, constants: tuple[Tensor, Tensor], *, probabilities: bool
    ) -> tuple[Tensor, ...]:
        """Of one raw input on the device: labels, whether its scores are finite, and, where they
        are asked for, probabilities; all as of `Prediction`."""
        found = self._scores(raw, constants)
        certain = [scores.probabilities(found, self.card)] if probabilities else []
        return scores.labels(found, self.card), scores.finite(found), *certain

    def _scores(self, raw: Tensor, constants: tuple[Tensor, Tensor]) -> Tensor:
        """(channels, rows', cols') of one raw input (rows, cols, bands), both on the device.

        One after the other: the library picks other convolution kernels, with other rounding, for
        another batch size; no pixel may depend on what it was batched with, and tiles large enough
        to be worth it keep a device busy alone.
        """
        pixels = _normalised(raw.to(self._wide, copy=True), *constants)
        # (rows, cols, bands) as it came is channels_last of (1, bands, rows, cols).
        bands_first = pixels.permute(2, 0, 1)
        if self.tta == "none":
            return self._scores_of(bands_first)
        return averaged(self._scores_of, bands_first).contiguous()

    def _scores_of(self, pixels: Tensor) -> Tensor:
        """(channels, rows - 2 halo, cols - 2 halo) of one normalised (bands, rows, cols)."""
        rows, cols = (self.field.output_of(length) for length in pixels.shape[1:])
        found: Tensor = self.network(pixels[None].to(self.dtype))[0]
        row, col = (found.shape[1] - rows) // 2, (found.shape[2] - cols) // 2
        return found[:, row : row + rows, col : col + cols].to(self._wide).contiguous()


def _placed(folded: nn.Module, device: str, dtype: torch.dtype) -> nn.Module:
    # The library's own annotation of `to` forgets this form.
    placed: nn.Module = folded.to(device=device, dtype=dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def _normalised(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    # In place, and whole image rows at a time: three times as fast as an innermost axis of a
    # few bands.
    rows, cols, bands = pixels.shape
    flat = pixels.view(rows, cols * bands)
    return flat.sub_(mean.repeat(cols)).div_(std.repeat(cols)).view(rows, cols, bands)


def _stack(parts: Sequence[Tensor]) -> NDArray[Any]:
    return np.stack([part.cpu().numpy() for part in parts])


def _tensor(batch: NDArray[Any]) -> Tensor:
    if not (batch.dtype.isnative and batch.flags.c_contiguous and batch.flags.writeable):
        batch = np.array(batch, dtype=batch.dtype.newbyteorder("="), order="C")
    return torch.from_numpy(batch)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    # Set where it is used, because worker processes of a scheduler begin with one thread, and
    # given back, because the setting is the whole process's.
    before = torch.get_num_threads()
    if before == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
    tta: Tta = "none",
    ranges: Ranges = (),
) -> TorchModel:
    """The model of a `.safetensors` file.

    Raises ModelError E-MODEL-FORMAT (not such a file, or damaged), E-MODEL-CARD (unknown
    architecture or parameter, or a card that contradicts its network), E-MODEL-WEIGHTS (names
    or shapes that differ), E-MODEL-NAN, E-PRECISION-MODEL; ResourceError E-NO-CUDA,
    E-PRECISION-DEVICE; UsageError E-OPTION.
    """
    path = Path(path)
    device = resolve_device(device)
    if threads is not None and threads < 1:
        raise UsageError("E-OPTION", option="--threads", value=threads, allowed="1 or more")
    if tta not in get_args(Tta):
        raise UsageError("E-OPTION", option="--tta", value=tta, allowed=", ".join(get_args(Tta)))
    card = read_card(path)
    network = build(card, path)
    if precision == "int8":
        _check_int8(network, path, device)
    content = weights.read(network, path)
    values = weights.parse(content, path)
    weights.check(network, values, path)
    network.load_state_dict(values, assign=True)
    keep_freed_memory()
    return TorchModel(
        network,
        card,
        uri=str(path.resolve()),
        sha256=hashlib.sha256(content).hexdigest(),
        device=device,
        dtype=DTYPES[precision],
        threads=threads,
        tta=tta,
        prepared=functools.partial(int8.prepared, ranges=ranges) if precision == "int8" else None,
    )


def precisions(path: str | os.PathLike[str], device: str) -> tuple[Precision, ...]:
    """Those in which the model at `path` can be loaded on `device` of this machine."""
    path = Path(path)
    reason = int8.why_not(build(read_card(path), path)) or device != "cpu" or not int8.here()
    return ("fp32", "bf16") if reason else ("fp32", "bf16", "int8")


def _check_int8(network: Network, path: Path, device: str) -> None:
    if reason := int8.why_not(network):
        raise ModelError("E-PRECISION-MODEL", path=path, precision="int8", reason=reason)
    if device != "cpu" or not int8.here():
        raise ResourceError("E-PRECISION-DEVICE", precision="int8")


def save_model(
    network: nn.Module,
    card: Card,
    path: str | os.PathLike[str],
    *,
    storage: weights.Storage = "fp32",
) -> None:
    """Write weights and card to a `.safetensors` file that `load` takes, in one replacement.

    Equal weights and cards give equal bytes. storage: dtype of the stored floating weights.
    Raises ModelError as `load` does for a network and a card that do not belong together,
    OutputError E-MODEL-WRITE.
    """
    values = weights.stored(network, storage)
    weights.check(build(card, path), values, path)
    weights.write(values, card.to_metadata(), path)


def build(card: Card, path: str | os.PathLike[str]) -> Network:
    """The network that a card describes, without storage: a card may name any size."""
    try:
        with torch.device("meta"):
            network = make_network(card.architecture, card.parameters)
    except ModelError as error:
        _refuse(path, error.message)
    for name, said, built in (
        ("bands", card.bands, network.bands),
        ("output channels", card.channels, network.channels),
        ("halo", card.halo, network.field.halo),
        ("stride", card.stride, network.field.stride),
        ("offset", card.offset, network.field.offset),
    ):
        if said != built:
            _refuse(path, f"{name} is {said}, but its network has {built}")
    if network.inexact and not card.inexact:
        _refuse(path, f"it claims to be exact, but has {network.inexact}")
    return network


def make_network(architecture: str, parameters: Mapping[str, Any]) -> Network:
    """A network with random weights, by its name in `ARCHITECTURES`.

    Raises ModelError E-MODEL-PARAMETERS.
    """
    if architecture not in ARCHITECTURES:
        known, hint = ", ".join(ARCHITECTURES), nearest(architecture, ARCHITECTURES)
        raise ModelError(
            "E-MODEL-PARAMETERS",
            architecture=architecture,
            reason=f"it is unknown{hint}; known: {known}",
        )
    module = importlib.import_module(ARCHITECTURES[architecture])
    network: Network = module.build(dict(parameters))
    return network


def _refuse(path: str | os.PathLike[str], reason: str) -> NoReturn:
    raise ModelError("E-MODEL-CARD", path=path, reason=reason)
