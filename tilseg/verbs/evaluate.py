"""`tilseg.evaluate`: a prediction against the truth, in memory that does not grow with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import UsageError
from tilseg.metrics.codes import CodedPair, coded_pair
from tilseg.metrics.compare import compare
from tilseg.metrics.difference import DifferenceCounter
from tilseg.metrics.numbered import Numbers
from tilseg.metrics.score import Score
from tilseg.truth.align import on_grid_of
from tilseg.truth.class_map import ClassMap
from tilseg.truth.features import is_vector, read_features
from tilseg.truth.legend import Legend, read_legend
from tilseg.truth.numbered import open_numbered
from tilseg.truth.raster import open_raster
from tilseg.window import Window

Image = str | os.PathLike[str] | NDArray[Any]

_LONGEST_PICTURE = 1024
_MAX_TOLERANCE = 64


def evaluate(
    prediction: Image,
    truth: Image,
    *,
    objects: bool = False,
    ignore: Sequence[int] | None = None,
    align: bool = False,
    legend: str | os.PathLike[str] | None = None,
    tolerance: float = 2.0,
    connectivity: Literal[4, 8] = 8,
    output: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Score:
    """Compare two maps of classes; the score does not depend on how they are read.

    prediction: a mask as a file, an array, a mask.zarr or the directory of a run. truth: the
    same, or polygons (GeoJSON, COCO, GeoPackage), burnt on the prediction's grid.
    objects: the numbers of both are objects, not classes, and 0 is none: label images, or of a
    result its labels.zarr. What touches is then apart, as the numbers say.
    ignore: values that are no class; None for 255, 65535 and nodata, see `open_raster`.
    align: bring a truth on another grid to the prediction's, by the nearest pixel.
    legend: a file that turns colours, numbers or words into classes.
    tolerance: of the boundary F1 in pixels, from 0 to 64. connectivity: neighbours of a pixel
    in its object. output: a directory for evaluation.json, evaluation.html and pictures.
    progress: called with (pixels done, pixels in all).

    Raises UsageError (exit 2) for options, InputError (4) for maps that can't be read or
    compared, OutputError (7) and ExistsError (10) for `output`.
    """
    if not 0 <= tolerance <= _MAX_TOLERANCE:
        allowed = f"0 to {_MAX_TOLERANCE} pixels"
        raise UsageError("E-OPTION", option="tolerance", value=tolerance, allowed=allowed)
    place = None if output is None else Path(output)
    if place is not None:
        from tilseg.metrics.page import check_output, write_evaluation

        check_output(place)
    if objects and (align or legend is not None):
        allowed = "label images on one grid, without align and legend"
        raise UsageError("E-OPTION", option="objects", value=True, allowed=allowed)
    named = None if legend is None else read_legend(Path(legend))
    with ExitStack() as stack:
        numbers = None
        if objects:
            pair, numbers = _numbered(prediction, truth, ignore, stack)
        else:
            pair = _classes(prediction, truth, named, ignore, stack, align=align)
        differences = None
        if place is not None:
            differences = DifferenceCounter(pair.shape, _LONGEST_PICTURE, pair.background)
        score = compare(
            pair,
            tolerance=tolerance,
            connectivity=1 if connectivity == 4 else 2,
            numbers=numbers,
            differences=differences,
            progress=progress,
        )
    if place is not None and differences is not None:
        write_evaluation(score, differences, place)
    return score


def _classes(
    prediction: Image,
    truth: Image,
    legend: Legend | None,
    ignore: Sequence[int] | None,
    stack: ExitStack,
    *,
    align: bool,
) -> CodedPair:
    predicted = open_raster(prediction, legend, ignore, numbers=False)
    stack.callback(predicted.close)
    true = _open_truth(truth, predicted, legend, ignore, align=align)
    stack.callback(true.close)
    return coded_pair(predicted, true)


def _numbered(
    prediction: Image, truth: Image, ignore: Sequence[int] | None, stack: ExitStack
) -> tuple[CodedPair, Callable[[Window], Numbers]]:
    predicted, true = (open_numbered(each, ignore) for each in (prediction, truth))
    stack.callback(predicted.close)
    stack.callback(true.close)
    on_grid_of(true, predicted, align=False)
    return (
        coded_pair(predicted, true),
        lambda window: (predicted.numbers(window), true.numbers(window)),
    )


def _open_truth(
    truth: Image,
    predicted: ClassMap,
    legend: Legend | None,
    ignore: Sequence[int] | None,
    *,
    align: bool,
) -> ClassMap:
    if isinstance(truth, np.ndarray) or not is_vector(Path(truth)):
        return on_grid_of(open_raster(truth, legend, ignore), predicted, align=align)
    from tilseg.truth.burn import BurntMap

    on_map = predicted.georef.is_map and predicted.georef.crs is not None
    features = read_features(Path(truth), legend, image=predicted.path, on_map=on_map)
    return BurntMap(features, predicted, align=align)
