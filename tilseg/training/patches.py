"""Training patches: the network's whole halo round every labelled pixel, mirrored at the edge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tilseg.receptive_field import ReceptiveField
from tilseg.training.centres import Centres
from tilseg.training.deformation import Deformation, draw_deformation
from tilseg.training.intensities import change_intensity
from tilseg.training.samples import Sample
from tilseg.training.settings import Augmentation
from tilseg.training.stains import jitter_stains
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
        self, sample: Sample, centre: Size, how: Deformation | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Input (input, input, bands) and labels (output, output) round a pixel."""
        return self._cut(sample, centre, how or Deformation(self.input), sample.input)

    def changed(
        self, sample: Sample, centre: Size, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """The same, changed at random as the augmentation says."""
        strength = self.augmentation.stain

        def stained(window: Window) -> NDArray[np.float32]:
            raw = sample.raw(window)
            return sample.normalised(jitter_stains(raw, strength, rng) if strength else raw)

        how = draw_deformation(self.augmentation, self.input, rng)
        pixels, labels = self._cut(sample, centre, how, stained)
        return change_intensity(pixels, self.augmentation, rng), labels

    def _cut(
        self,
        sample: Sample,
        centre: Size,
        how: Deformation,
        pixels: Callable[[Window], NDArray[np.float32]],
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        side = how.window
        window = Window(centre.rows - side // 2, centre.cols - side // 2, side, side)
        inner = slice(self.field.halo, self.field.halo + self.output)
        return how.pixels(pixels(window)), how.labels(sample.target(window))[inner, inner]

    def draw(
        self, centres: Centres, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """A random patch. Patches overhang, mirrored, so that the pixels at an edge are drawn
        too, half as often as others.
        """
        return self.changed(*centres.draw(rng), rng)

    def batch(self, centres: Centres, count: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """Batch number `step`: (count, bands, input, input) float32 and (count, output, output)
        uint8. Each patch follows from the seed, the step and its number, whatever was drawn before.
        """
        drawn = [
            self.draw(centres, np.random.default_rng([seed, step, number]))
            for number in range(count)
        ]
        pixels = np.stack([pixels for pixels, _ in drawn])
        labels = np.stack([labels for _, labels in drawn])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(labels)
