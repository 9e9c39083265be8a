"""A PyTorch network as a tilseg `Model`: raw pixels in, classes out."""

from __future__ import annotations

import bisect
import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tilseg.card import Card
from tilseg.model import BandStatistics, Prediction, Tta
from tilseg.models import scores
from tilseg.models.blocks import Network, fold
from tilseg.models.devices import be_reproducible_on_cuda, cuda_devices
from tilseg.models.feed import Feed
from tilseg.models.symmetries import averaged
from tilseg.receptive_field import ReceptiveField
from tilseg.window import Size

# Memory held over memory needed: gaps between blocks in a heap that is kept (see heap.py).
# Measured up to 1.4 for U-Nets in strips and 1.7 for others, widths 16 to 64.
_KEPT = 2.0
# Beyond these a larger input gains next to nothing: 1480 px on a CPU (measured), 4200 px where
# the halo is down to a tenth of the work.
_LARGEST_INPUT = {"cpu": 1480, "cuda": 4200}
# On a CPU, activations of one prediction that are worth the last tenth of speed: in float32 a U-Net of
# width 32 has them at 1100 px, where 1480 px would compute a tenth less.
_MUCH_BYTES = 480e6
# An input of so many halos keeps 0.69 of what is computed; below that, speed is lost quickly.
_HALOS = 12
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
            return min(_LARGEST_INPUT["cpu"], max(_HALOS * self.field.halo, self._light_side))
        sharing = -(-processes // max(1, len(cuda_devices())))
        return min(_LARGEST_INPUT["cuda"], int(self._fitting_side / math.sqrt(sharing)))

    @property
    def _light_side(self) -> int:
        """Pixels a side of the largest input, of those that make sense, without much memory."""
        room = _MUCH_BYTES / self.dtype.itemsize
        sides = range(_LARGEST_INPUT["cpu"] + 1)
        return (
            bisect.bisect_right(sides, room, key=lambda side: self._live_elements(side, side)) - 1
        )

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
