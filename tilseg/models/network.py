"""Networks by name or card, and their model files: build, load, save.

Only `.safetensors` files are read: they hold numbers and text, and loading one runs no code.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, get_args

import torch
from torch import nn

from tilseg.card import Card, read_card
from tilseg.errors import ModelError, ResourceError, UsageError, nearest
from tilseg.heap import keep_freed_memory
from tilseg.model import ARCHITECTURES, Precision, Ranges, Tta
from tilseg.models import int8, weights
from tilseg.models.blocks import Network
from tilseg.models.devices import resolve_device
from tilseg.models.torch_model import TorchModel

# Of a network's input and output.
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.float32}


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
