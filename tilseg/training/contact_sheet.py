"""What a training sees: patches beside their augmented selves, with their labels outlined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import find_boundaries

from tilseg.training.patches import PatchReader
from tilseg.training.samples import IGNORE, Sample
from tilseg.window import Size

_PAPER = 255
_GAP = 6
# Patches smaller than this are enlarged by a whole number.
_LEAST_SIDE = 160
# Places that are tried in an image: the one with the longest outlines is shown.
_TRIED = 12
# Of the pixels of a patch, so many are darker than black or lighter than white.
_BEYOND = 0.5  # per cent on either side

Patch = tuple[NDArray[np.float32], NDArray[np.uint8]]


def contact_sheet(
    reader: PatchReader,
    samples: Sequence[Sample],
    colors: Sequence[str],
    *,
    rows: int = 5,
    changed: int = 6,
    seed: int = 0,
) -> NDArray[np.uint8]:
    """A picture (height, width, 3): in each row a patch as it is, then `changed` times augmented.

    samples: `rows` are taken evenly from all, of fewer some more than once. colors: "#0072b2" of each class, for
    the outlines of all but the first. Unlabelled pixels are dimmed. All patches of a row are shown
    between the same two values of the image, so that what augmentation does to them can be seen;
    of more than three bands the first three, of two the first.
    """
    rng = np.random.default_rng(seed)
    numbers = np.linspace(0, len(samples) - 1, rows).round().astype(int)
    shown = [_row(reader, samples[number], colors, changed, rng) for number in numbers]
    return _framed(np.concatenate(shown), 0)


def _row(
    reader: PatchReader,
    sample: Sample,
    colors: Sequence[str],
    changed: int,
    rng: np.random.Generator,
) -> NDArray[np.uint8]:
    centre = _telling_place(reader, sample, rng)
    plain = reader.read(sample, centre)
    patches = [plain, *(reader.changed(sample, centre, rng) for _ in range(changed))]
    low, high = np.percentile(_colours(plain[0], sample), (_BEYOND, 100 - _BEYOND))
    inner = slice(reader.field.halo, reader.field.halo + reader.output)
    pictures = []
    for pixels, labels in patches:
        light = (_colours(pixels[inner, inner], sample) - low) / max(high - low, 1e-6)
        grey = (255 * light.clip(0, 1)).astype(np.uint8)
        pictures.append(_framed(_outlined(grey, labels, colors), 1))
    return np.concatenate(pictures, axis=1)


def _telling_place(reader: PatchReader, sample: Sample, rng: np.random.Generator) -> Size:
    """Of some places at random, the one whose labels have the longest outlines."""
    places = [Size(*map(int, rng.integers(sample.shape))) for _ in range(_TRIED)]
    lengths = [find_boundaries(reader.read(sample, place)[1]).sum() for place in places]
    return places[int(np.argmax(lengths))]


def _colours(pixels: NDArray[np.float32], sample: Sample) -> NDArray[np.float32]:
    """Three bands, as they were before they were normalised: (rows, cols, 3)."""
    mean, std = (
        np.asarray(each, np.float32) for each in (sample.statistics.mean, sample.statistics.std)
    )
    raw = pixels * std + mean
    return raw[..., :3] if raw.shape[2] > 2 else np.repeat(raw[..., :1], 3, axis=2)


def _outlined(
    picture: NDArray[np.uint8], labels: NDArray[np.uint8], colors: Sequence[str]
) -> NDArray[np.uint8]:
    """The picture, enlarged where it is small, with an outline inside each class but the first."""
    times = -(-_LEAST_SIDE // len(picture))
    picture, labels = (np.repeat(np.repeat(each, times, 0), times, 1) for each in (picture, labels))
    picture[labels == IGNORE] //= 2
    outline = find_boundaries(labels, mode="inner")
    for value, color in enumerate(colors):
        picture[outline & (labels == value)] = list(bytes.fromhex(color[1:]))
    return picture


def _framed(picture: NDArray[np.uint8], before: int) -> NDArray[np.uint8]:
    """White between pictures: to the right and below, or on the left and above."""
    beside = (0, _GAP) if before else (_GAP, 0)
    return np.pad(picture, (beside, beside, (0, 0)), constant_values=_PAPER)
