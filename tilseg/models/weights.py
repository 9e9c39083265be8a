"""Weights in and out of `.safetensors` files, checked against the network they are for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from tilseg.errors import ModelError, OutputError

Storage = Literal["fp32", "fp16", "bf16"]

# A network is made of any of these without saying so.
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Header and padding beside the weights.
_MAX_REST = 2**23
_STORAGE = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def read(network: nn.Module, path: Path) -> bytes:
    """The whole file, if it is no larger than weights of `network` can be.

    Raises ModelError E-MODEL-WEIGHTS for a larger one, E-MODEL-FORMAT.
    """
    try:
        size = path.stat().st_size
        most = 8 * sum(value.numel() for value in network.state_dict().values()) + _MAX_REST
        if size > most:
            reason = f"the file has {size:,} bytes, its network needs at most {most:,}"
            raise ModelError("E-MODEL-WEIGHTS", path=path, reason=reason)
        return path.read_bytes()
    except OSError as error:
        reason = f"can't be read: {error.strerror}"
        raise ModelError("E-MODEL-FORMAT", path=path, reason=reason) from None


def parse(content: bytes, path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Name -> weight of a whole file; raises ModelError E-MODEL-FORMAT for a damaged one."""
    try:
        return safetensors.torch.load(content)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError("E-MODEL-FORMAT", path=path, reason=f"is damaged ({error})") from None


def check(network: nn.Module, weights: dict[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Refuse weights that are not exactly the network's: names, shapes, kind, finite values.

    Raises ModelError E-MODEL-WEIGHTS, naming the first three on each side, or E-MODEL-NAN.
    """
    expected = network.state_dict()
    different = [
        f"{key} is {_describe(weights[key])} instead of {_describe(wanted)}"
        for key, wanted in expected.items()
        if key in weights and _describe(weights[key]) != _describe(wanted)
    ]
    reasons = [
        _first_three("missing: ", [key for key in expected if key not in weights]),
        _first_three("unknown: ", sorted(weights.keys() - expected)),
        _first_three("", different),
    ]
    if any(reasons):
        raise ModelError("E-MODEL-WEIGHTS", path=path, reason="; ".join(filter(None, reasons)))
    for key in expected:
        if not weights[key].isfinite().all():
            raise ModelError("E-MODEL-NAN", path=path, key=key)


def _describe(value: Tensor) -> str:
    kind = "" if value.dtype in _FLOATS else f"{value.dtype} ".removeprefix("torch.")
    return kind + " x ".join(map(str, value.shape))


def _first_three(what: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what}{', '.join(names[:3])}{more}"


def stored(network: nn.Module, storage: Storage) -> dict[str, Tensor]:
    """The network's weights on the CPU, floating ones in the dtype of `storage`."""
    return {
        key: value.detach()
        .to("cpu", _STORAGE[storage] if value.is_floating_point() else None)
        .contiguous()
        for key, value in network.state_dict().items()
    }


def write(
    weights: dict[str, Tensor], metadata: dict[str, str], path: str | os.PathLike[str]
) -> None:
    """Write a file beside `path` and put it in its place at once, durably.

    Raises OutputError E-MODEL-WRITE; what was there before is then unharmed.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(safetensors.torch.save(weights, metadata))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise OutputError("E-MODEL-WRITE", path=path, reason=error.strerror) from None
    finally:
        beside.unlink(missing_ok=True)
