"""Which device a network runs on, and what makes a GPU give the same bits again."""

from __future__ import annotations

import os

import torch

from tilseg.errors import ResourceError, UsageError


def resolve_device(device: str) -> str:
    """What "auto", "cpu", "cuda" or "cuda:i" means here: "cpu" or "cuda:i".

    Raises UsageError E-OPTION for another word, ResourceError E-NO-CUDA for a device that is
    not there.
    """
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        return device
    kind, colon, index = device.partition(":")
    if kind != "cuda" or (colon and not index.isdecimal()):
        allowed = "auto, cpu, cuda or cuda:0"
        raise UsageError("E-OPTION", option="--device", value=device, allowed=allowed)
    reason = _why_no_cuda(int(index or 0))
    if reason:
        raise ResourceError("E-NO-CUDA", device=device, reason=reason)
    return f"cuda:{int(index or 0)}"


def cuda_devices() -> tuple[str, ...]:
    """The CUDA devices this process may use, as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else [str(index) for index in range(count)]
    return tuple(names[:count])


def be_reproducible_on_cuda() -> None:
    """Full float32 products, and the same kernels for the same shapes."""
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # TF32 keeps ten bits of the mantissa, and cuDNN uses it unless told otherwise.
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "ieee"


def _why_no_cuda(index: int) -> str | None:
    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    if not torch.cuda.is_available():
        return "no CUDA device can be used here"
    count = torch.cuda.device_count()
    return None if index < count else f"the devices here are cuda:0 to cuda:{count - 1}"
