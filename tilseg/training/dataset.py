"""From labelled images to samples: opened, checked, split, normalised."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tilseg.card import Normalization
from tilseg.errors import InputError, UsageError
from tilseg.georef import PixelSize
from tilseg.receptive_field import ReceptiveField
from tilseg.source import Source, file_identity, open_source
from tilseg.statistics import band_statistics
from tilseg.training.config import Data, TrainingClass
from tilseg.training.labels import LabelRules, open_labels
from tilseg.training.pairs import Pair, find_pairs
from tilseg.training.samples import IGNORE, Sample, in_memory, make_sample
from tilseg.training.split import Region, split_blocks, split_ends, split_pairs
from tilseg.training.table import read_table
from tilseg.truth.class_map import ClassMap
from tilseg.window import Window

# Decoded pixels and labels kept in memory, all samples together; the rest is read by windows.
_MEMORY = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Dataset:
    """Samples for training and for validation, which share no pixel.

    normalization: as it goes into the card. pixel_size: of every image, where all state
    the same square one to 1 %, else None. band_names: of every image where they agree, else empty.
    summary: what there is, as plain JSON: images, megapixels and pixels of each class in either
    part, and a sha256 over the names, sizes and ends of all files.
    """

    training: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    bands: int
    normalization: Normalization
    pixel_size: PixelSize | None
    band_names: tuple[str, ...]
    summary: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Labelled:
    """A pair that is opened."""

    pair: Pair
    image: Source
    labels: ClassMap


_Part = tuple[_Labelled, Region]


def open_dataset(
    data: Data,
    classes: Sequence[TrainingClass],
    *,
    seed: int = 0,
    field: ReceptiveField | None = None,
) -> Dataset:
    """Open, check, split and normalise labelled images.

    seed: of the split. field: of the network, which blocks are cut for; None for one without
    context. normalization "constants" takes mean and std of the training images for every image.

    Raises UsageError E-OPTION without data, E-TRAIN-VALUES; InputError (exit 4): what `find_pairs`, `read_table`
    and `open_labels` raise, E-TRAIN-SPLIT, -PATIENT, -ONE-CLASS, -BANDS, E-INPUT-NO-DATA.
    """
    rules = LabelRules.of(data, classes)
    found = {pair: _open(pair, rules) for pair in _pairs(data)}
    sources = [each.image for each in found.values()]
    bands = _common_bands(sources)
    field = field or ReceptiveField(0, 1, 0)
    training, validation = _split(found, data, seed, field)
    norm = Normalization(kind="image", orient=data.orient)
    if data.normalization == "constants":
        # Once each, however many blocks of it there are.
        norm = _constants({id(one.image): one.image for one, _ in training}.values(), data.orient)
    elif data.normalization == "joint":
        norm = Normalization(kind="joint", orient=data.orient)
    make = _sample_maker(norm)
    kept, held = (tuple(map(make, parts)) for parts in (training, validation))
    held = tuple(sample for sample in held if sample.class_pixels()[:IGNORE].any())
    counts = {
        "training": _counted(kept, "training", data, rules.names),
        "validation": _counted(held, "validation", data, rules.names),
    }
    return Dataset(
        kept,
        held,
        bands,
        norm,
        _pixel_size(sources),
        _band_names(sources),
        {"sha256": _digest(found), **counts},
    )


def _pairs(data: Data) -> tuple[Pair, ...]:
    if data.table is not None:
        return read_table(data.table)
    if data.images is None or data.masks is None:
        message = "Missing IMAGES and MASKS, or a table"
        raise UsageError("E-USAGE", message=message, command="tilseg train")
    return find_pairs(data.images, data.masks)


def _open(pair: Pair, rules: LabelRules) -> _Labelled:
    image = open_source(pair.image)
    return _Labelled(pair, image, open_labels(pair.mask, image, rules))


def _split(
    found: dict[Pair, _Labelled], data: Data, seed: int, field: ReceptiveField
) -> tuple[list[_Part], list[_Part]]:
    if data.split == "blocks":
        cut: Callable[..., Any] = partial(
            split_blocks, side=data.block, fraction=data.validation_fraction, field=field
        )
    elif len(found) == 1:
        cut = partial(split_ends, fraction=data.validation_fraction)
    else:
        halves = split_pairs(tuple(found), data.validation_fraction, seed)
        training, validation = ([(found[p], _all_of(found[p])) for p in half] for half in halves)
        return training, validation
    training, validation = [], []
    for number, each in enumerate(found.values()):
        seeds = {"seed": [seed, number]} if data.split == "blocks" else {}
        kept, held = cut(each.image.shape, path=each.image.uri, **seeds)
        training += [(each, region) for region in kept]
        validation += [(each, region) for region in held]
    return training, validation


def _all_of(each: _Labelled) -> Region:
    whole = Window.whole(each.image.shape)
    return Region(whole, whole)


def _sample_maker(norm: Normalization) -> Callable[[_Part], Sample]:
    """Makes samples, decoded into memory as long as all of them fit there."""
    spare = _MEMORY

    def make(part: _Part) -> Sample:
        nonlocal spare
        each, region = part
        image, window = each.image, region.window
        whole = window == Window.whole(image.shape)
        sample = make_sample(
            each.pair.name if whole else f"{each.pair.name}[{window}]",
            image,
            each.labels,
            statistics=statistics(image),
            group=each.pair.group,
            region=window,
            counted=region.counted,
        )
        needed = window.size.area * (image.bands * image.dtype.itemsize + 1)
        if needed > spare:
            return sample
        spare -= needed
        return in_memory(sample)

    known: dict[int, Any] = {}

    def statistics(image: Source) -> Any:
        # Once an image, however many blocks it has.
        if id(image) not in known:
            known[id(image)] = band_statistics(image, norm, bands=range(image.bands))
        return known[id(image)]

    return make


def _common_bands(sources: Sequence[Source]) -> int:
    wanted = sources[0].bands
    for source in sources:
        if source.bands != wanted:
            raise InputError("E-TRAIN-BANDS", path=source.uri, bands=source.bands, wanted=wanted)
    return wanted


def _constants(
    images: Collection[Source], orient: Literal["bright-on-dark"] | None
) -> Normalization:
    """Mean and standard deviation of the pixels of all images, each image counting alike."""
    plain = Normalization(kind="image")
    found = [band_statistics(image, plain, bands=range(image.bands)) for image in images]
    mean = np.array([each.mean for each in found])
    square = np.array([each.std for each in found]) ** 2 + mean**2
    std = np.sqrt(square.mean(axis=0) - mean.mean(axis=0) ** 2)
    dtypes = {image.dtype.name for image in images}
    return Normalization(
        kind="constants",
        dtype=dtypes.pop() if len(dtypes) == 1 else None,
        mean=tuple(mean.mean(axis=0).tolist()),
        std=tuple(std.tolist()),
        orient=orient,
    )


def _counted(
    samples: Sequence[Sample], part: str, data: Data, names: Sequence[str]
) -> dict[str, Any]:
    """How much there is of a part. Raises InputError E-TRAIN-ONE-CLASS."""
    counts: NDArray[np.int64] = sum(
        (sample.class_pixels() for sample in samples), np.zeros(256, np.int64)
    )
    found = [name for value, name in enumerate(names) if counts[value]]
    if len(found) < 2:
        words = f"only the class {found[0]}" if found else "no class at all"
        path = data.table or data.masks
        raise InputError("E-TRAIN-ONE-CLASS", path=path, part=part, found=words)
    return {
        "images": len(samples),
        "megapixels": round(sum(sample.shape.area for sample in samples) / 1e6, 3),
        "pixels": {name: int(counts[value]) for value, name in enumerate(names)},
        "not_labelled": int(counts[IGNORE]),
    }


def _digest(found: dict[Pair, _Labelled]) -> str:
    """The same for the same files, wherever they are and whenever they were copied."""
    known = [
        (pair.name, _lasting(each.image.identity()), _lasting(_file(pair.mask)))
        for pair, each in found.items()
    ]
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()


def _file(path: str) -> Any:
    """Identity of the file of a mask; what is in a folder its pixels of each class tell."""
    return file_identity(Path(path)) if Path(path).is_file() else None


def _lasting(identity: Any) -> Any:
    """An identity without places and times."""
    if isinstance(identity, dict):
        passing = ("path", "mtime_ns", "scene")
        lasting = (value for key, value in identity.items() if key not in passing)
        return [_lasting(value) for value in lasting]
    return [_lasting(each) for each in identity] if isinstance(identity, list) else identity


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
