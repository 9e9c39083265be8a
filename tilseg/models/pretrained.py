"""Weights made elsewhere, for a training to begin with."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import NoReturn

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from tilseg.errors import ModelError


def begin_with(network: nn.Module, path: str | os.PathLike[str]) -> int:
    """Copy into `network` the weights of a file that have its names and shapes; how many.

    Names are those of tilseg, which for U2-Net are its authors', or torchvision's of vgg16 and
    vgg16_bn, for networks that begin with it. The head of a network for other classes, say, is
    left as it was. path: a `.safetensors`, or a file of tensors as `torch.save` writes it, read
    without running code.

    Raises ModelError E-TRAIN-WEIGHTS where the file can't be read or nothing in it fits,
    E-MODEL-NAN.
    """
    path = Path(path)
    own = network.state_dict()
    found = _read(path)
    taken = {
        name: value
        for name, value in _as_named_in(own, found).items()
        if name in own and value.shape == own[name].shape
    }
    if not taken:
        _refuse(path, f"none of its {len(found)} weights has the name and shape of one here")
    for name, value in taken.items():
        if not value.isfinite().all():
            raise ModelError("E-MODEL-NAN", path=path, key=name)
    network.load_state_dict(own | taken)
    return len(taken)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(path.read_bytes())
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        _refuse(path, f"can't be read: {error.strerror}")
    except (SafetensorError, RuntimeError, EOFError, KeyError, ValueError) as error:
        _refuse(path, f"is damaged ({error})")
    except pickle.UnpicklingError:
        _refuse(path, "is damaged, or holds more than tensors, which might run code")
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        _refuse(path, "does not hold a table of tensors, as a state_dict is")
    return found


def _as_named_in(own: dict[str, Tensor], found: dict[str, Tensor]) -> dict[str, Tensor]:
    """`found` under the names of `own`, where it is torchvision's VGG-16 and these have one."""
    theirs, ours = _convolutions(found), _convolutions(own)
    if theirs == ours or len(theirs) != len(ours):
        renamed = dict(found)
    elif "features.1.running_mean" in found:
        # Convolutions that were followed by batch norm are nothing without it.
        renamed = {}
    else:
        # Batch norm moves what comes after it, and begins from nothing.
        renamed = {
            f"features.{here}.{kind}": found[f"features.{there}.{kind}"]
            for there, here in zip(theirs, ours, strict=True)
            for kind in ("weight", "bias")
        }
    for there, here in (("classifier.0", "fc6"), ("classifier.3", "fc7")):
        # What was fully connected over 7 x 7 pixels is a convolution of that size.
        flat, size = found.get(f"{there}.weight"), own.get(f"{here}.weight")
        if flat is not None and size is not None and flat.numel() == size.numel():
            renamed[f"{here}.weight"] = flat.reshape(size.shape)
            renamed[f"{here}.bias"] = found[f"{there}.bias"]
    return renamed


def _convolutions(weights: dict[str, Tensor]) -> list[int]:
    """Places of the convolutions in `features`."""
    return sorted(
        int(name.split(".")[1])
        for name, value in weights.items()
        if name.startswith("features.") and name.endswith(".weight") and value.dim() == 4
    )


def _refuse(path: Path, reason: str) -> NoReturn:
    raise ModelError("E-TRAIN-WEIGHTS", path=path, reason=reason)
