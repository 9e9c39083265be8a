"""MONAI's `SlidingWindowInferer`, with an overlap of 0.25 and gaussian blending.

python with_monai.py WORK SMALL
"""

from __future__ import annotations

import tifffile
import torch
from measured import Work, main
from monai.inferers import SlidingWindowInferer
from unet import load

WINDOW = 512


@torch.inference_mode()
def segment(work: Work) -> str:
    network = load(work.model, padding=1)
    pixels = work.normalised(tifffile.imread(work.image))
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()
    window = tuple(image.shape[2:]) if work.whole else (WINDOW, WINDOW)
    inferer = SlidingWindowInferer(window, sw_batch_size=1, overlap=0.25, mode="gaussian")
    mask = inferer(image, network).argmax(dim=1)[0].to(torch.uint8).numpy()
    path = work.output + ".tif"
    tifffile.imwrite(path, mask, tile=(512, 512), compression="zstd")
    return path


if __name__ == "__main__":
    main(segment)
