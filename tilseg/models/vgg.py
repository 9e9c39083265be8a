"""The convolutions of VGG-16, as an encoder without padding.

Simonyan and Zisserman 2015, arXiv:1409.1556, configuration D. Layers have the places, and so
the names, that torchvision gives them, so that its weights fit (`features.0.weight` and so on).
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

STAGES = (2, 2, 3, 3, 3)  # convolutions of each, before a 2x2 maximum
LOST = tuple(2 * convs for convs in STAGES)  # pixels of each axis that they take


def widths(width: int) -> tuple[int, ...]:
    """Channels of each stage; VGG-16 itself has a width of 64."""
    return (width, 2 * width, 4 * width, 8 * width, 8 * width)


def features(bands: int, width: int, *, norm: bool) -> nn.Sequential:
    """All layers, the five maxima among them; with `norm` as torchvision's vgg16_bn."""
    layers: list[nn.Module] = []
    channels = bands
    for convs, wide in zip(STAGES, widths(width), strict=True):
        for _ in range(convs):
            layers.append(nn.Conv2d(channels, wide, 3))
            layers += [nn.BatchNorm2d(wide)] * norm
            layers.append(nn.ReLU(inplace=True))
            channels = wide
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def stages(layers: nn.Sequential) -> Iterator[list[nn.Module]]:
    """The layers of each stage, without its maximum; also after folding, which moves places."""
    stage: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            yield stage
            stage = []
        else:
            stage.append(layer)


def through(stage: list[nn.Module], x: Tensor) -> Tensor:
    """`x` after all layers of a stage."""
    for layer in stage:
        x = layer(x)
    return x
