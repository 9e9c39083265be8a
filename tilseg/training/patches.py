"""Training patches: the network's whole halo round every labelled pixel, mirrored at the edge."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tilseg.receptive_field import ReceptiveField
from tilseg.training.augmentation import change_intensity, dihedral, draw_zoom
from tilseg.training.samples import Sample
from tilseg.training.settings import Augmentation
from tilseg.window import Size, Window


@dataclass(frozen=True, slots=True)
class PatchReader:
    """Cuts inputs and labels of one size for a network.

    patch: side in pixels of the labels, at least; the network's next possible output is taken.
    """

    field: ReceptiveField
    patch: int
    augmentation: Augmentation

    @property
    def input(self) -> int:
        """Side of the network input, in pixels."""
        return self.field.input_for(self.patch)

    @property
    def output(self) -> int:
        """Side of the labels, in pixels."""
        return self.field.output_of(self.input)

    def read(
        self, sample: Sample, centre: Size, zoom: float = 1.0
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Input (input, input, bands) and labels (output, output) round a pixel.

        With a zoom other than 1 a smaller or larger window is resampled to the same size:
        pixels bilinearly, antialiased where they shrink, labels by the nearest pixel.
        """
        side = self.input if zoom == 1 else max(1, round(self.input / zoom))
        window = Window(centre.rows - side // 2, centre.cols - side // 2, side, side)
        if side == self.input:
            halo = self.field.halo
            kept = Window(window.row + halo, window.col + halo, self.output, self.output)
            return sample.input(window), sample.target(kept)
        pixels = _resample(sample.input(window), self.input, "bilinear")
        labels = _resample(sample.target(window)[..., None], self.input, "nearest-exact")
        inner = slice(self.field.halo, self.field.halo + self.output)
        return pixels, labels[inner, inner, 0].astype(np.uint8)

    def draw(
        self, samples: tuple[Sample, ...], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """A random patch: any image, any pixel of it as the centre, one of 8 symmetries.

        Images of a group count alike whatever their size: they differ among themselves more
        than the parts of one do. A group counts as the square root of its images, so that a
        rare kind is not drowned by a common one. Patches overhang, mirrored, so that the pixels
        at an edge are drawn too, half as often as others.
        """
        sample = samples[rng.choice(len(samples), p=_weights(samples))]
        centre = Size(int(rng.integers(sample.shape.rows)), int(rng.integers(sample.shape.cols)))
        pixels, labels = self.read(sample, centre, draw_zoom(self.augmentation, rng))
        symmetry = int(rng.integers(8))
        pixels = change_intensity(dihedral(pixels, symmetry), self.augmentation, rng)
        return pixels, dihedral(labels, symmetry)

    def batch(
        self, samples: tuple[Sample, ...], count: int, seed: int, step: int
    ) -> tuple[Tensor, Tensor]:
        """Batch number `step`: (count, bands, input, input) float32 and (count, output, output)
        uint8. The same for the same seed and step, whatever was drawn before.
        """
        rng = np.random.default_rng([seed, step])
        drawn = [self.draw(samples, rng) for _ in range(count)]
        pixels = np.stack([pixels for pixels, _ in drawn])
        labels = np.stack([labels for _, labels in drawn])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(labels)


def _weights(samples: tuple[Sample, ...]) -> NDArray[np.float64]:
    sizes = Counter(sample.group for sample in samples)
    weights = np.array([sizes[sample.group] ** -0.5 for sample in samples])
    weights /= weights.sum()
    return weights


def _resample(patch: NDArray[np.generic], side: int, mode: str) -> NDArray[np.float32]:
    tensor = torch.from_numpy(np.ascontiguousarray(patch, np.float32)).permute(2, 0, 1)[None]
    resized = F.interpolate(tensor, (side, side), mode=mode, antialias=mode == "bilinear")
    array: NDArray[np.float32] = resized[0].permute(1, 2, 0).contiguous().numpy()
    return array
