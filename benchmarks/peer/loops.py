"""Loops over tiles as one writes them by hand, of a U-Net with valid convolutions.

    python loops.py WORK SMALL plain|levers

plain: 572 pixels in, of whose output the middle 384 are kept. levers: batch normalisation folded,
channels last, bfloat16 if asked, tiles of 1024 pixels, and as many predictions at once as there are
CPUs, each of one thread, under the variables `LEVERS`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tifffile
import torch
from measured import Work, main
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from unet import UNet, load


def plain(work: Work) -> str:
    network = load(work.model, padding=0)
    return in_tiles(work, lambda pixels: network(pixels.contiguous()), network.stride, 384, map)


def levers(work: Work) -> str:
    dtype = torch.bfloat16 if work.precision == "bf16" else torch.float32
    network = folded(load(work.model, padding=0)).to(dtype, memory_format=torch.channels_last)

    def predict(pixels: Tensor) -> Tensor:
        return network(pixels.to(dtype)).float()

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as threads:
        return in_tiles(work, predict, network.stride, 1024, threads.map)


def folded(network: UNet) -> UNet:
    """With each batch normalisation in the weights of the convolution before it."""
    for block in [*network.encoder, network.bottleneck, *network.decoder]:
        for at in (0, 3):
            block[at], block[at + 1] = fuse_conv_bn_eval(block[at], block[at + 1]), nn.Identity()
    return network


def in_tiles(
    work: Work,
    network: Callable[[Tensor], Tensor],
    stride: int,
    step: int,
    spread: Callable[..., Any],
) -> str:
    """Segment the image in tiles of `step` pixels, over which `spread` maps."""
    # The output of a tile of a multiple of `stride` is four pixels too large, at the end.
    halo, spare = 6 * stride - 4, 4
    image = tifffile.imread(work.image)
    sides = image.shape[:2]
    tile = [-(-side // stride) * stride if work.whole else step for side in sides]
    over = [-side % at for side, at in zip(sides, tile, strict=True)]
    image = np.pad(image, [*((halo, halo + spare + more) for more in over), (0, 0)], mode="reflect")
    mask = np.empty([side + more for side, more in zip(sides, over, strict=True)], np.uint8)

    @torch.inference_mode()
    def predict(row: int, col: int) -> None:
        row_end, col_end = (
            at + t + 2 * halo + spare for at, t in zip((row, col), tile, strict=True)
        )
        inside = image[row:row_end, col:col_end]
        pixels = torch.from_numpy(work.normalised(inside)).permute(2, 0, 1)[None]
        found = classes(network(pixels)[0])
        mask[row : row + tile[0], col : col + tile[1]] = found[:-spare, :-spare]

    places = [(r, c) for r in range(0, sides[0], tile[0]) for c in range(0, sides[1], tile[1])]
    list(spread(predict, *zip(*places, strict=True)))
    path = work.output + ".tif"
    tifffile.imwrite(path, mask[: sides[0], : sides[1]], tile=(512, 512), compression="zstd")
    return path


def classes(scores: Tensor) -> np.ndarray:
    """The first of the largest scores; argmax is an order slower over so short an axis."""
    best, found = scores[0], torch.zeros(scores.shape[1:], dtype=torch.uint8)
    for value, more in enumerate(scores[1:], start=1):
        found = torch.where(more > best, value, found)
        best = torch.maximum(best, more)
    return found.numpy()


if __name__ == "__main__":
    main({"plain": plain, "levers": levers}[sys.argv[3]])
