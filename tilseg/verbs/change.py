"""`tilseg.change`: what changed from one mask to another, in memory that does not grow with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.changes import result
from tilseg.changes.change import Change, compare
from tilseg.changes.pair import Pair, paired
from tilseg.durable import replacing, writing
from tilseg.errors import UsageError
from tilseg.plan import RegionOptions
from tilseg.polygons.formats import check_formats
from tilseg.truth.align import on_grid_of
from tilseg.truth.legend import read_legend
from tilseg.truth.raster import open_raster
from tilseg.verbs.measure import measure
from tilseg.window import Size

Image = str | os.PathLike[str] | NDArray[Any]

_BLOCK = Size(2048, 2048)


def change(
    before: Image,
    after: Image,
    *,
    output: str | os.PathLike[str] | None = None,
    align: bool = False,
    ignore: Sequence[int] | None = None,
    legend: str | os.PathLike[str] | None = None,
    regions: RegionOptions = RegionOptions(),  # noqa: B008 - it is frozen
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Change:
    """Count what went from each class to each, pixel by pixel; it does not depend on blocks.

    before, after: masks as files, arrays, a mask.zarr or the directories of runs. Classes are
    matched by name where both name theirs, else by value.
    output: a directory for the change mask (change.zarr, change.tif), its regions, changes.csv,
    change.html and the receipt change.json. Without it nothing is written.
    align: bring `after` to the grid of `before`, by the nearest pixel.
    ignore: values that are no class; None for 255, 65535 and nodata, see `open_raster`.
    legend: a file that turns colours and numbers of masks into classes, and names these.
    regions: how the regions of the change mask are measured.
    progress: called with (phase, pixels done, pixels in all).

    Raises InputError (exit 4) for what can't be read, is no mask or lies elsewhere, UsageError
    (2) for options and for one mask given twice, OutputError (7) and ExistsError (10) for
    `output`.
    """
    inputs = [Path(each) for each in (before, after) if not isinstance(each, np.ndarray)]
    if len(inputs) == 2 and all(path.exists() for path in inputs) and inputs[0].samefile(inputs[1]):
        raise UsageError("E-CHANGE-SAME", path=inputs[0])
    folder = None if output is None else Path(output).absolute()
    if folder is not None:
        check_formats(regions)
        result.check_output(folder, inputs)
    named = None if legend is None else read_legend(Path(legend))
    with ExitStack() as stack:
        old = open_raster(before, named, ignore)
        stack.callback(old.close)
        new = open_raster(after, named, ignore)
        stack.callback(new.close)
        pair = paired(old, on_grid_of(new, old, align=align))
        found = compare(pair, _BLOCK, lambda done, total: progress("compare", done, total))
        if folder is not None:
            found = _write(pair, found, inputs, folder, regions, progress)
    return found


def _write(
    pair: Pair,
    found: Change,
    inputs: list[Path],
    output: Path,
    regions: RegionOptions,
    progress: Callable[[str, int, int], None],
) -> Change:
    """Write the directory `output`; it appears when it is complete, in place of an older one."""
    with writing(output), replacing(output) as ready:
        pictures, factor = result.write_masks(pair, found, ready, _BLOCK, progress)
        table = measure(
            ready / result.ZARR,
            output=ready / "regions",
            regions=regions,
            progress=lambda done, total: progress("measure", done, total),
        )
        for path in (ready / "regions").iterdir():
            path.rename(ready / path.name)
        (ready / "regions").rmdir()
        found = found.with_regions(table)
        result.write_texts(found, pictures, factor, inputs, ready)
    return found
