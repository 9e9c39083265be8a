"""The U-Nets people use, by name: parameters for `tilseg.models.unet.build`.

`bands` and `classes` come from the data. Free of torch, so that listing them is quick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Setting:
    """Parameters of one named network, and one line about it."""

    about: str
    parameters: dict[str, Any]


SETTINGS: dict[str, Setting] = {
    "unet-2015": Setting(
        "Ronneberger et al. 2015: valid convolutions, 2x2 transposed up-sampling, no norm",
        {"depth": 4, "width": 64, "padding": "valid", "upsampling": "transposed"},
    ),
    "unet-padded": Setting(
        "zero-padded double convolutions with batch norm, 2x2 transposed up-sampling",
        {"depth": 4, "width": 64, "padding": "same", "norm": "batch", "upsampling": "transposed"},
    ),
    "unet-bilinear": Setting(
        "the padded one with bilinear up-sampling (align_corners=False)",
        {"depth": 4, "width": 64, "padding": "same", "norm": "batch", "upsampling": "bilinear"},
    ),
    "unet-bilinear-corners": Setting(
        "the padded one with bilinear up-sampling (align_corners=True): not exact under tiling",
        {
            "depth": 4,
            "width": 64,
            "padding": "same",
            "norm": "batch",
            "upsampling": "bilinear-corners",
        },
    ),
    "unet-strided": Setting(
        "strided convolutions down, nearest up, LeakyReLU and dropout",
        {
            "depth": 4,
            "width": 64,
            "padding": "same",
            "norm": "batch",
            "downsampling": "stride",
            "upsampling": "nearest",
            "activation": "leaky_relu",
            "dropout": 0.5,
        },
    ),
    "unet-skips": Setting(
        "three levels of three valid convolutions each, with skips",
        {"depth": 3, "width": 32, "convs": 3, "norm": "batch", "skips": True},
    ),
    "unet-no-skips": Setting(
        "the same without skips: an encoder and a decoder",
        {"depth": 3, "width": 32, "convs": 3, "norm": "batch", "skips": False},
    ),
    "unet-unpool": Setting(
        "max-unpooling up-sampling, which puts values back where the maxima came from",
        {"depth": 4, "width": 64, "padding": "same", "norm": "batch", "upsampling": "unpool"},
    ),
}
