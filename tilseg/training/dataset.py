"""From folders to samples: opened, checked, split, normalised."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from tilseg.card import Normalization
from tilseg.errors import InputError
from tilseg.georef import PixelSize
from tilseg.source import Source, open_source
from tilseg.statistics import band_statistics
from tilseg.training.pairs import find_pairs, split_pairs, split_region
from tilseg.training.samples import Sample, check_mask, in_memory, make_sample
from tilseg.window import Window

# Decoded pixels and labels kept in memory, all samples together; the rest is read by windows.
_MEMORY = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Dataset:
    """Samples for training and for validation, which share no pixel.

    normalization: as it goes into the card. pixel_size: of every image, where all state
    the same square one to 1 %, else None. band_names: of every image where they agree, else empty.
    """

    training: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    bands: int
    normalization: Normalization
    pixel_size: PixelSize | None
    band_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """A labelled image that is opened, and the region of it that is used."""

    name: str
    image: Source
    mask: Source
    region: Window


def open_dataset(
    images: str | os.PathLike[str],
    masks: str | os.PathLike[str],
    *,
    classes: tuple[str, ...],
    normalization: Literal["image", "joint", "constants"] = "image",
    orient: Literal["bright-on-dark"] | None = None,
    fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Open and split the images of a folder, or the two parts of a single image.

    classes: names; the position of a name is its value in the masks. fraction: of the images
    of each subfolder, or of the length of a single image, that is held for validation.
    normalization "constants" takes mean and std of the training images for every image.

    Raises InputError (exit 4): what `open_source` raises, E-TRAIN-EMPTY, -PAIR, -SPLIT, -SIZE,
    -MASK, -CLASS, -ONE-CLASS, -BANDS, E-INPUT-NO-DATA.
    """
    training, validation = _open_parts(images, masks, fraction, seed)
    sources = [part.image for part in (*training, *validation)]
    bands = _common_bands(sources)
    if normalization == "constants":
        norm = _constants([part.image for part in training], orient)
    else:
        norm = Normalization(kind=normalization, orient=orient)
    make = _sample_maker(norm, classes)
    dataset = Dataset(
        tuple(map(make, training)),
        tuple(map(make, validation)),
        bands,
        norm,
        _pixel_size(sources),
        _band_names(sources),
    )
    _check_classes(dataset.training, "training", masks, classes)
    _check_classes(dataset.validation, "validation", masks, classes)
    return dataset


def _open_parts(
    images: str | os.PathLike[str], masks: str | os.PathLike[str], fraction: float, seed: int
) -> tuple[list[_Part], list[_Part]]:
    pairs = find_pairs(images, masks)
    parts = {}
    for pair in pairs:
        image, mask = open_source(pair.image), open_source(pair.mask)
        check_mask(image, mask)
        parts[pair] = _Part(pair.name, image, mask, Window.whole(image.shape))
    if len(pairs) == 1:
        (part,) = parts.values()
        kept, held = split_region(part.image.shape, fraction)
        return [replace(part, region=kept)], [replace(part, region=held)]
    training, validation = split_pairs(pairs, fraction, seed)
    return [parts[pair] for pair in training], [parts[pair] for pair in validation]


def _sample_maker(norm: Normalization, classes: tuple[str, ...]) -> Callable[[_Part], Sample]:
    """Makes samples, decoded into memory as long as all of them fit there."""
    spare = _MEMORY

    def make(part: _Part) -> Sample:
        nonlocal spare
        bands = part.image.bands
        statistics = band_statistics(part.image, norm, bands=range(bands))
        sample = make_sample(
            part.name,
            part.image,
            part.mask,
            region=part.region,
            statistics=statistics,
            classes=classes,
        )
        needed = part.region.size.area * (bands * part.image.dtype.itemsize + 1)
        if needed > spare:
            return sample
        spare -= needed
        return in_memory(sample)

    return make


def _common_bands(sources: Sequence[Source]) -> int:
    wanted = sources[0].bands
    for source in sources:
        if source.bands != wanted:
            raise InputError("E-TRAIN-BANDS", path=source.uri, bands=source.bands, wanted=wanted)
    return wanted


def _constants(images: Iterable[Source], orient: Literal["bright-on-dark"] | None) -> Normalization:
    """Mean and standard deviation of the pixels of all images, each image counting alike."""
    plain = Normalization(kind="image")
    found = [band_statistics(image, plain, bands=range(image.bands)) for image in images]
    mean = np.array([each.mean for each in found])
    square = np.array([each.std for each in found]) ** 2 + mean**2
    std = np.sqrt(square.mean(axis=0) - mean.mean(axis=0) ** 2)
    return Normalization(
        kind="constants",
        mean=tuple(mean.mean(axis=0).tolist()),
        std=tuple(std.tolist()),
        orient=orient,
    )


def _check_classes(
    samples: Sequence[Sample],
    part: str,
    masks: str | os.PathLike[str],
    classes: tuple[str, ...],
) -> None:
    counts = sum((sample.class_pixels() for sample in samples), np.zeros(256, np.int64))
    found = [name for value, name in enumerate(classes) if counts[value]]
    if len(found) < 2:
        words = f"only the class {found[0]}" if found else "no class at all"
        raise InputError("E-TRAIN-ONE-CLASS", path=Path(masks), part=part, found=words)


def _pixel_size(sources: Sequence[Source]) -> PixelSize | None:
    sizes = [source.georef.pixel_size for source in sources]
    first = sizes[0]
    if first is None:
        return None
    same = all(
        size is not None
        and size.unit == first.unit
        and math.isclose(size.rows, first.rows, rel_tol=0.01)
        and math.isclose(size.cols, first.rows, rel_tol=0.01)
        for size in sizes
    )
    return first if same else None


def _band_names(sources: Sequence[Source]) -> tuple[str, ...]:
    names = {source.band_names for source in sources}
    (common, *others) = names
    return () if others or not all(common) else common
