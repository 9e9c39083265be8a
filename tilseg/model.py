"""What a model is to tilseg, and how one is found and loaded.

A new network is one file in `tilseg/models/`, one line in `ARCHITECTURES` and one contract
test class. Importing this module does not import torch.
"""

from __future__ import annotations

import importlib.resources
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tilseg.card import Card
from tilseg.errors import ModelError, nearest
from tilseg.receptive_field import ReceptiveField
from tilseg.window import Size

Precision = Literal["fp32", "bf16", "int8"]
# (least, largest) value of each band of the normalised input, then of each map of the network.
Ranges = tuple[tuple[float, float], ...]
# Averaging at test time: "d4" over the eight flips and quarter turns of every input.
Tta = Literal["none", "d4"]


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """Normalisation constants of a run, one a band: input = (pixel - mean) / std.

    A negative std turns the image round (dark objects on a light ground).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a network says about a batch of n inputs of (rows, cols).

    labels: (n, rows - 2 halo, cols - 2 halo) uint8, class values.
    probabilities: (n, rows - 2 halo, cols - 2 halo, classes) uint8, 255 = certain; or None.
    finite: (n,) bool; False where any score of that input is NaN or infinite, whose labels
        then mean nothing.
    """

    labels: NDArray[np.uint8]
    finite: NDArray[np.bool_]
    probabilities: NDArray[np.uint8] | None = None


class Model(Protocol):
    """A network ready to predict. It only ever sees legal sizes with the full halo.

    uri: what `load_model` reloads; sha256: of the file; device: "cpu" or "cuda:0"; tta: what its
    predictions are averaged over.
    """

    @property
    def uri(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def card(self) -> Card: ...
    @property
    def field(self) -> ReceptiveField: ...
    @property
    def device(self) -> str: ...
    @property
    def tta(self) -> Tta: ...

    def predict(
        self,
        batch: NDArray[Any],
        statistics: BandStatistics,
        *,
        probabilities: bool = False,
    ) -> Prediction:
        """Classes of a batch of raw pixels (n, rows, cols, bands), any supported dtype."""
        ...

    def working_bytes(self, size: Size) -> int:
        """Memory of the host that one prediction of one input of `size` takes beside the weights,
        from above."""
        ...

    def largest_input(self, processes: int = 1) -> int:
        """Pixels a side of the largest input that makes sense on the device, and fits its own
        memory where it has such; processes: that share the devices of this machine."""
        ...


# name in the card -> module with `build(parameters) -> tilseg.models.blocks.Network`
ARCHITECTURES: dict[str, str] = {
    "unet": "tilseg.models.unet",
    "unetpp": "tilseg.models.unetpp",
    "u2net": "tilseg.models.u2net",
    "fcn8s": "tilseg.models.fcn",
    "segnet": "tilseg.models.segnet",
    "deeplabv3plus": "tilseg.models.deeplab",
    "pspnet": "tilseg.models.pspnet",
    "hrnet": "tilseg.models.hrnet",
    "refinenet": "tilseg.models.refinenet",
}


def bundled_models() -> dict[str, Path]:
    """Name -> file of the models in the wheel."""
    folder = importlib.resources.files("tilseg") / "weights"
    with importlib.resources.as_file(folder) as path:
        return {file.stem: file for file in sorted(path.glob("*.safetensors"))}


def find_model(name: str | os.PathLike[str]) -> Path:
    """The file of a model given by bundled name or path; a file wins over a name.

    Raises ModelError E-MODEL-MISSING, listing what is bundled.
    """
    path = Path(name)
    # Other than Path.is_file this takes a name too long for the file system for what it is.
    if os.path.isfile(path):
        return path
    bundled = bundled_models()
    if str(name) in bundled:
        return bundled[str(name)]
    raise ModelError(
        "E-MODEL-MISSING",
        name=str(name),
        hint=nearest(str(name), bundled),
        bundled=", ".join(bundled) or "none",
    )


def load_model(
    model: str | os.PathLike[str],
    *,
    device: str = "auto",
    precision: Precision = "fp32",
    threads: int | None = None,
    tta: Tta = "none",
    ranges: Ranges = (),
) -> Model:
    """Load a bundled model by name, or a `.safetensors` file, ready to predict.

    device: "auto", "cpu", "cuda" or "cuda:i". threads: CPU threads of one prediction; None
    for torch's own choice. tta: "d4" predicts every input in its eight flips and quarter turns
    and averages the probabilities; that takes eight times as long. ranges: of a plan in int8;
    without them such a model predicts in float32, for `make_plan` to find them.

    Raises ModelError (exit 6) for a file that is missing, damaged or does not fit its card, and
    E-PRECISION-MODEL for a network that int8 is not for; ResourceError (exit 8) E-NO-CUDA for a
    device that is not there, E-PRECISION-DEVICE; UsageError E-OPTION.
    """
    from tilseg.models import network

    return network.load(
        find_model(model),
        device=device,
        precision=precision,
        threads=threads,
        tta=tta,
        ranges=ranges,
    )
