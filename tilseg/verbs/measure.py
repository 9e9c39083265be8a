"""`tilseg.measure`: the regions of any mask, in memory that does not grow with it."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from tilseg.durable import remove, sync_directory, sync_tree, unseal, writing
from tilseg.errors import ExistsError, InputError, OutputError
from tilseg.plan import RegionOptions
from tilseg.regions import BlockGrid, BlockTable, RegionTable, label_blocks
from tilseg.regions.files import CSV, LABELS, PARQUET, write_tables
from tilseg.regions.measuring import Measuring
from tilseg.regions.units import world_units
from tilseg.sinks.labels import write_labels
from tilseg.sinks.zarr import MaskStore
from tilseg.source import Source, open_source
from tilseg.stores import MASK
from tilseg.window import Size, Window
from tilseg.workspace import RECEIPT

Image = str | os.PathLike[str] | NDArray[Any]
Value = int | Literal["own"] | None

_BLOCK = Size(2048, 2048)
_THREADS = 2
# No pixel of a mask that can be opened has it.
_HIDDEN = 2**16


def measure(
    mask: Image,
    *,
    image: Image | Source | None = None,
    output: str | os.PathLike[str] | None = None,
    regions: RegionOptions = RegionOptions(),  # noqa: B008 - it is frozen
    nodata: Value = "own",
    background: Value = "own",
    progress: Callable[[int, int], None] = lambda *_: None,
) -> RegionTable:
    """Measure the regions of a mask: those that `run` measures, from the same code.

    mask: a mask as a file, an array, a mask.zarr or the directory of a run. image: the image
    under it, for the intensity columns; the level of the mask's size is taken, all its bands.
    output: a directory for regions.parquet, regions.csv and, if wanted, labels.zarr.
    nodata, background: value without a class, and the class that forms no regions; None where
    there is none; "own" for what the mask says itself, and else None and 0.
    progress: called with (pixels done, pixels in all).

    Raises InputError (exit 4) for what can't be read, is no mask or does not fit together,
    UsageError (2) for options, OutputError (7) and ExistsError (10) for `output`.
    """
    place = None if output is None else Path(output).absolute()
    if place is not None:
        _check_output(place)
    with ExitStack() as stack:
        opened = _open_mask(mask, nodata, background)
        stack.callback(opened.source.close)
        under = None
        if image is not None:
            under = image if isinstance(image, Source) else open_source(image)
            if under is not image:
                stack.callback(under.close)
        measuring = _measuring(opened, under, regions)
        tables = _tables(opened, under, measuring, progress)
        found = measuring.merge(tables)
        if found.nodata == found.grid.shape.area:
            raise InputError("E-MASK-NO-DATA", path=opened.path)
        if place is not None:
            _write(found, opened, regions, place)
    return found


@dataclass(frozen=True, slots=True)
class _Mask:
    """A mask that is read by windows; `nodata` may be negative, what is measured never is."""

    path: str
    source: Source
    block: Size
    nodata: int | None
    background: int | None

    @property
    def marker(self) -> int:
        """What nodata is in the pixels that `read` returns."""
        return _HIDDEN if self.nodata is None or self.nodata < 0 else self.nodata

    def read(self, window: Window) -> NDArray[Any]:
        """Class values of a window, (rows, cols), `marker` where there are none."""
        labels, shown = self.source.read(window)[..., 0], self.source.mask(window)
        hidden = None if shown is None else ~shown
        if self.nodata is not None and self.nodata < 0:
            missing = labels == self.nodata
            hidden = missing if hidden is None else hidden | missing
        if hidden is None or not hidden.any():
            return labels
        return np.where(hidden, np.int32(self.marker), labels.astype(np.int32))


def _open_mask(mask: Image, nodata: Value, background: Value) -> _Mask:
    block, own = _BLOCK, cast("int | None", 0)
    if not isinstance(mask, np.ndarray):
        mask, block, own = _facts(Path(mask))
    source = open_source(mask, palette="index")
    path = source.uri.partition("#")[0]
    if source.dtype.kind == "f":
        raise InputError("E-MASK-DTYPE", dtype=source.dtype)
    if source.bands != 1:
        raise InputError("E-MASK-BANDS", path=path, bands=source.bands)
    stated = None if source.nodata is None else int(source.nodata)
    background = own if background == "own" else background
    nodata = stated if nodata == "own" else nodata
    if nodata is not None and nodata == background:
        nodata = None
    return _Mask(path, source, block, nodata, background)


def _facts(path: Path) -> tuple[Path, Size, int | None]:
    """The mask's own path, the blocks it is stored in, and its background."""
    background: int | None = 0
    if (path / RECEIPT).is_file():
        background = _background(path / RECEIPT)
        path = next((p for p in (path / MASK, path / "mask.tif") if p.exists()), path)
    if (path / "0" / "zarr.json").is_file():
        try:
            store = MaskStore.open(path)
        except InputError:
            # Somebody else's zarr, for which there is a reader.
            return path, _BLOCK, background
        if store.finished:
            return path, store.block, store.background
    return path, _BLOCK, background


def _background(receipt: Path) -> int | None:
    try:
        found: int | None = unseal(receipt.read_bytes())["model"]["background"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"the receipt is damaged ({error})"
        raise InputError("E-INPUT-READ", path=receipt, reason=reason) from error
    return found


def _measuring(mask: _Mask, image: Source | None, options: RegionOptions) -> Measuring:
    grid = BlockGrid(mask.source.shape, mask.block)
    georef = mask.source.georef
    if image is not None:
        level = image.levels[_level(image, grid.shape)]
        if world_units(georef, grid.shape) is None:
            georef = image.georef.decimated(level.row_factor, level.col_factor)
    return Measuring.on(georef, grid, options, nodata=mask.marker, background=mask.background)


def _level(image: Source, shape: Size) -> int:
    """The level of the image that has the mask's size."""
    for number, level in enumerate(image.levels):
        if level.size == shape:
            return number
    raise InputError("E-REGION-IMAGE", image=tuple(image.shape), mask=tuple(shape))


def _tables(
    mask: _Mask, image: Source | None, measuring: Measuring, progress: Callable[[int, int], None]
) -> Iterator[BlockTable]:
    """The tables of all blocks in raster order, a few of them measured ahead."""
    level = 0 if image is None else _level(image, measuring.grid.shape)

    def one(window: Window) -> BlockTable:
        pixels = None if image is None else image.read(window, level)
        table, _ = measuring.block(mask.read(window), window, pixels)
        assert table is not None
        return table

    done, waiting = 0, deque[Future[BlockTable]]()
    pool = ThreadPoolExecutor(_THREADS)
    try:
        for number, window in enumerate(measuring.grid, start=1):
            waiting.append(pool.submit(one, window))
            while len(waiting) > _THREADS or (waiting and number == len(measuring.grid)):
                table = waiting.popleft().result()
                done += table.window.size.area
                progress(done, table.shape.area)
                yield table
    finally:
        pool.shutdown(cancel_futures=True)


def _check_output(output: Path) -> None:
    """Raises ExistsError E-MEASURE-EXISTS for anything but an earlier measurement, OutputError
    E-OUTPUT-PARENT where its folder does not exist."""
    if not output.parent.is_dir():
        raise OutputError("E-OUTPUT-PARENT", path=output, parent=output.parent)
    if os.path.lexists(output):
        names = {path.name for path in output.iterdir()} if output.is_dir() else {""}
        if not names <= {CSV, PARQUET, LABELS}:
            raise ExistsError("E-MEASURE-EXISTS", path=output)


def _write(regions: RegionTable, mask: _Mask, options: RegionOptions, output: Path) -> None:
    """Write the directory `output`; it appears when it is complete, in place of an older one."""
    with writing(output):
        stage = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
        try:
            # Not the stage itself: what mkdtemp makes is for its owner's eyes alone.
            ready = stage / "new"
            ready.mkdir()
            write_tables(regions, ready)
            if options.labels:
                write_labels(
                    ready / LABELS,
                    label_blocks(mask.read, regions),
                    shape=regions.grid.shape,
                    block=regions.grid.block,
                    name=Path(mask.path).stem,
                    georef=mask.source.georef,
                )
            sync_tree(ready)
            if output.exists():
                output.rename(stage / "old")
            ready.rename(output)
            sync_directory(output.parent)
        finally:
            remove(stage)
