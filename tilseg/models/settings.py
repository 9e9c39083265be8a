"""The networks people use, by name: architectures and their parameters.

`bands` and `classes` come from the data. Free of torch, so that listing them is quick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Setting:
    """One named network: a line about it, its name in `ARCHITECTURES` and its parameters."""

    about: str
    architecture: str
    parameters: dict[str, Any]


_LIGHT_ENCODER = {"encoder": "resnet26", "width": 8}

SETTINGS: dict[str, Setting] = {
    "unet-small": Setting(
        "valid convolutions with batch norm, three levels of 16 channels and more: for a CPU",
        "unet",
        {"depth": 3, "width": 16, "norm": "batch"},
    ),
    "unet-2015": Setting(
        "Ronneberger et al. 2015: valid convolutions, 2x2 transposed up-sampling, no norm",
        "unet",
        {"depth": 4, "width": 64, "padding": "valid", "upsampling": "transposed"},
    ),
    "unet-padded": Setting(
        "zero-padded double convolutions with batch norm, 2x2 transposed up-sampling",
        "unet",
        {"depth": 4, "width": 64, "padding": "same", "norm": "batch", "upsampling": "transposed"},
    ),
    "unet-bilinear": Setting(
        "the padded one with bilinear up-sampling (align_corners=False)",
        "unet",
        {"depth": 4, "width": 64, "padding": "same", "norm": "batch", "upsampling": "bilinear"},
    ),
    "unet-bilinear-corners": Setting(
        "the padded one with bilinear up-sampling (align_corners=True): not exact under tiling",
        "unet",
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
        "unet",
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
        "unet",
        {"depth": 3, "width": 32, "convs": 3, "norm": "batch", "skips": True},
    ),
    "unet-no-skips": Setting(
        "the same without skips: an encoder and a decoder",
        "unet",
        {"depth": 3, "width": 32, "convs": 3, "norm": "batch", "skips": False},
    ),
    "unet-unpool": Setting(
        "max-unpooling up-sampling, which puts values back where the maxima came from",
        "unet",
        {"depth": 4, "width": 64, "padding": "same", "norm": "batch", "upsampling": "unpool"},
    ),
    "unetpp": Setting(
        "Zhou et al. 2018: U-Nets of four depths with nested skips, valid, deep supervision",
        "unetpp",
        {"depth": 4, "width": 32},
    ),
    "unetpp-small": Setting(
        "UNet++ of three depths with batch norm, for a CPU",
        "unetpp",
        {"depth": 3, "width": 8, "norm": "batch"},
    ),
    "u2net": Setting(
        "Qin et al. 2020: a U-Net of U-Nets with seven supervised outputs; not exact at its halo",
        "u2net",
        {"width": 16, "halo": 256},
    ),
    "u2netp": Setting(
        "Qin et al. 2020: the light U2-Net; not exact at its halo",
        "u2net",
        {"width": 16, "light": True, "halo": 256},
    ),
    "u2net-small": Setting(
        "the light U2-Net with a quarter of its channels, for a CPU; not exact at its halo",
        "u2net",
        {"width": 4, "light": True, "halo": 96},
    ),
    "fcn8s": Setting(
        "Long et al. 2015: VGG-16 without padding, scores from three depths",
        "fcn8s",
        {"width": 64, "dense": 4096},
    ),
    "fcn8s-small": Setting(
        "FCN-8s with an eighth of its channels, for a CPU",
        "fcn8s",
        {"width": 8, "dense": 128, "dropout": 0.0},
    ),
    "segnet": Setting(
        "Badrinarayanan et al. 2017: VGG-16 without padding and its mirror image, unpooling",
        "segnet",
        {"width": 64},
    ),
    "segnet-small": Setting(
        "SegNet with an eighth of its channels, for a CPU",
        "segnet",
        {"width": 8},
    ),
    "deeplabv3plus": Setting(
        "Chen et al. 2018 on ResNet-101, with the mean of the image: not exact under tiling",
        "deeplabv3plus",
        {"encoder": "resnet101", "width": 64},
    ),
    "deeplabv3plus-exact": Setting(
        "the same without the mean of the image",
        "deeplabv3plus",
        {"encoder": "resnet101", "width": 64, "image_pooling": False},
    ),
    "deeplabv3plus-small": Setting(
        "DeepLabV3+ without the mean of the image on a light residual encoder, for a CPU",
        "deeplabv3plus",
        {**_LIGHT_ENCODER, "image_pooling": False},
    ),
    "pspnet": Setting(
        "Zhao et al. 2017 on ResNet-50, means of the image and its parts: not exact under tiling",
        "pspnet",
        {"encoder": "resnet50", "width": 64},
    ),
    "pspnet-small": Setting(
        "PSPNet on a light residual encoder, for a CPU: not exact under tiling",
        "pspnet",
        dict(_LIGHT_ENCODER),
    ),
    "hrnet-small-v1": Setting(
        "Wang et al. 2021, HRNetV2-W18-Small-v1: four resolutions side by side",
        "hrnet",
        {"size": "small-v1", "width": 16},
    ),
    "hrnet-small-v2": Setting(
        "Wang et al. 2021, HRNetV2-W18-Small-v2: the same with more exchanges",
        "hrnet",
        {"size": "small-v2", "width": 18},
    ),
    "hrnet-small": Setting(
        "HRNet with half the channels of small-v1 and a light beginning, for a CPU",
        "hrnet",
        {"size": "small-v1", "width": 8, "stem": 16},
    ),
    "refinenet": Setting(
        "Lin et al. 2017 on ResNet-101: four maps refined from coarse to fine; a wide halo",
        "refinenet",
        {"encoder": "resnet101", "width": 64},
    ),
    "refinenet-small": Setting(
        "RefineNet on a light residual encoder, for a CPU; not exact at its halo",
        "refinenet",
        {**_LIGHT_ENCODER, "halo": 192, "dropout": 0.0},
    ),
}
