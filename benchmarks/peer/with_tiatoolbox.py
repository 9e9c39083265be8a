"""TIAToolbox's `SemanticSegmentor` on a whole slide, into a zarr store.

    python with_tiatoolbox.py WORK SMALL

Its own U-Net takes 1024 pixels, keeps the middle 512 and goes on by 450. Here it takes 1024, keeps
the middle 832 and goes on by 832, which is what this network needs: a third of the work.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import tifffile
import torch
import torchvision_operators  # noqa: F401 - before tiatoolbox
from measured import Work, main
from tiatoolbox.models.engine.io_config import IOSegmentorConfig
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
from tiatoolbox.models.models_abc import ModelABC
from torch import Tensor
from unet import UNet, load

TAKEN, KEPT = (1024, 1024), (832, 832)


class Model(ModelABC):
    """The network as TIAToolbox wants it: what goes in, and which part of what comes out counts."""

    def __init__(self, network: UNet, work: Work, kept: tuple[int, int]) -> None:
        super().__init__()
        self.network, self.work, self.kept = network, work, kept

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)

    def preproc(self, image: np.ndarray) -> np.ndarray:
        return self.work.normalised(image)

    def postproc(self, image: np.ndarray) -> np.ndarray:
        return image.argmax(axis=-1)

    @staticmethod
    @torch.inference_mode()
    def infer_batch(model: Model, batch_data: Tensor, *, device: str) -> np.ndarray:
        scores = model(batch_data.permute(0, 3, 1, 2).contiguous().to(device))
        chances = torch.softmax(scores, dim=1).permute(0, 2, 3, 1)
        row, col = ((s - k) // 2 for s, k in zip(chances.shape[1:3], model.kept, strict=True))
        return chances[:, row : row + model.kept[0], col : col + model.kept[1]].numpy()


def segment(work: Work) -> str:
    taken, kept = TAKEN, KEPT
    if work.whole:
        taken = kept = tifffile.TiffFile(work.image).pages[0].shape[:2]
    here = [{"units": "baseline", "resolution": 1.0}]
    engine = SemanticSegmentor(
        Model(load(work.model, padding=1), work, kept), batch_size=1, verbose=False
    )
    config = IOSegmentorConfig(
        input_resolutions=here,
        output_resolutions=here,
        save_resolution=here[0],
        patch_input_shape=taken,
        # Unlike the others, this one is taken as columns and rows.
        patch_output_shape=kept[::-1],
        stride_shape=kept,
    )
    shutil.rmtree(work.output, ignore_errors=True)
    engine.run(
        [Path(work.image)],
        ioconfig=config,
        patch_mode=False,
        auto_get_mask=False,
        save_dir=Path(work.output),
        output_type="zarr",
    )
    return str(Path(work.output, Path(work.image).stem + ".zarr", "predictions"))


if __name__ == "__main__":
    main(segment)
