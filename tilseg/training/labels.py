"""Labels of an image as a class map: masks of numbers or colours, and polygons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tilseg.errors import InputError, UsageError
from tilseg.georef import Georef
from tilseg.source import Source
from tilseg.sources.place import same_place
from tilseg.training.config import Data, TrainingClass
from tilseg.truth.class_map import IGNORED, ClassMap
from tilseg.truth.features import is_vector, read_features
from tilseg.truth.legend import Key, Legend
from tilseg.truth.raster import open_raster
from tilseg.window import Size

_UNLABELLED = (255, 65535)


@dataclass(frozen=True, slots=True)
class _Grid:
    path: str
    shape: Size
    georef: Georef


@dataclass(frozen=True, slots=True)
class LabelRules:
    """What stands for each class, and for none.

    names: of the classes. legend: for polygons, and for masks where `mapped`; else the numbers of
    a mask are the classes. ignore: numbers that mean *not labelled*.
    """

    names: tuple[str, ...]
    legend: Legend
    mapped: bool
    ignore: tuple[int, ...]

    @staticmethod
    def of(data: Data, classes: Sequence[TrainingClass]) -> LabelRules:
        """Those of a configuration. Raises UsageError E-TRAIN-VALUES."""
        class_of: dict[Key, int] = {}
        for value, each in enumerate(classes):
            _add(class_of, each.values or (value, each.name), value)
        _add(class_of, data.ignore, IGNORED)
        ignore = tuple(number for number in _UNLABELLED if number not in class_of)
        _add(class_of, ignore, IGNORED)
        ignore += tuple(key for key in data.ignore if isinstance(key, int))
        for value, each in enumerate(classes):
            # Two classes may be shown in one colour.
            if each.color and not each.values:
                class_of.setdefault(_folded(each.color), value)
        names = tuple(each.name for each in classes)
        legend = Legend("the configuration", class_of, {}, {}, data.property)
        mapped = any(each.values for each in classes) or any(
            isinstance(k, str) for k in data.ignore
        )
        return LabelRules(names, legend, mapped, ignore)


def _add(class_of: dict[Key, int], keys: Sequence[Key], value: int) -> None:
    for key in keys:
        if class_of.setdefault(_folded(key), value) != value:
            raise UsageError("E-TRAIN-VALUES", value=key)


def _folded(key: Key) -> Key:
    return key.lower() if isinstance(key, str) and key.startswith("#") else key


def open_labels(labels: str | Path, image: Source, rules: LabelRules) -> ClassMap:
    """The labels of an image: a mask of its size in any format that can be read, or polygons, on
    the map or in its pixels.

    A mask is read once, to see which values it holds. See `open_raster` and `read_features` for
    what has no label, which 255 and 65535 are beside what `rules` say.

    Raises InputError: what `open_source` and `read_features` raise, E-CLASSES-*, E-LEGEND-UNKNOWN,
    E-TRAIN-SIZE, E-TRAIN-PLACE, E-TRAIN-CLASS.
    """
    if is_vector(Path(labels)):
        return _burnt(Path(labels), image, rules)
    found = open_raster(str(labels), rules.legend if rules.mapped else None, rules.ignore)
    _check_grid(found, image)
    wrong = [value for value in found.values if value >= len(rules.names)]
    if wrong:
        listed = ", ".join(map(str, wrong[:8])) + (", ..." if len(wrong) > 8 else "")
        raise InputError(
            "E-TRAIN-CLASS",
            path=found.path,
            values=f"the undeclared value{'s' if len(wrong) > 1 else ''} {listed}",
            classes=", ".join(rules.names),
            last=len(rules.names) - 1,
            unlabelled=" or ".join(map(str, sorted(rules.ignore))),
        )
    return found


def _burnt(path: Path, image: Source, rules: LabelRules) -> ClassMap:
    from tilseg.truth.burn import BurntMap

    on_map = image.georef.is_map and image.georef.crs is not None
    features = read_features(path, rules.legend, image=image.uri, on_map=on_map)
    _check_size(features.path, features.shape or image.shape, image)
    return BurntMap(features, _Grid(image.uri, image.shape, image.georef), align=False)


def _check_grid(labels: ClassMap, image: Source) -> None:
    _check_size(labels.path, labels.shape, image)
    on_map = labels.georef.is_map and image.georef.is_map
    if on_map and not same_place(labels.georef, image.georef, image.shape):
        raise InputError("E-TRAIN-PLACE", path=labels.path, image=image.uri)


def _check_size(path: str, shape: Size, image: Source) -> None:
    if shape != image.shape:
        raise InputError(
            "E-TRAIN-SIZE",
            path=path,
            mask_rows=shape.rows,
            mask_cols=shape.cols,
            rows=image.shape.rows,
            cols=image.shape.cols,
        )
