"""`tilseg.measure`: the regions of any mask, in memory that does not grow with it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tilseg.ahead import ahead
from tilseg.card import Card, ClassInfo
from tilseg.durable import replacing, unseal, writing
from tilseg.errors import ExistsError, InputError, OutputError
from tilseg.fingerprint import plan_from_json
from tilseg.georef import ONE_TO_ONE, Factors, Georef
from tilseg.instance_rule import InstanceRule
from tilseg.instances import find_instances, measure_instances
from tilseg.plan import RegionOptions
from tilseg.polygons import formats
from tilseg.polygons.files import write_polygons
from tilseg.polygons.placing import Place
from tilseg.regions import BlockGrid, BlockTable, RegionTable, label_blocks
from tilseg.regions.files import write_tables
from tilseg.regions.measuring import Measuring
from tilseg.regions.names import CSV, LABELS, PARQUET
from tilseg.regions.units import world_units
from tilseg.sinks.labels import write_labels
from tilseg.sinks.zarr import MaskStore
from tilseg.source import Source, open_source
from tilseg.sources.resampled import on_grid
from tilseg.stores import MASK
from tilseg.window import Size, Window
from tilseg.workspace import RECEIPT

Image = str | os.PathLike[str] | NDArray[Any]
Value = int | Literal["own"] | None
_Read = Callable[[Window], NDArray[Any]]

_BLOCK = Size(2048, 2048)
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
    under it, for the intensity columns, all its bands: the level of the mask's size, or the image
    resampled as it was for the mask.zarr of a run.
    output: a directory for regions.parquet, regions.csv and, if wanted, labels.zarr and polygons.
    nodata, background: value without a class, and the class that forms no regions; None where
    there is none; "own" for what the mask says itself, and else None and 0. How objects that
    touch are told apart (`regions.instances`) is also the mask's own: as the run did that made it.
    progress: called with (pixels done, pixels in all).

    Raises InputError (exit 4) for what can't be read, is no mask or does not fit together,
    UsageError (2) for options, OutputError (7) and ExistsError (10) for `output`.
    """
    folder = None if output is None else Path(output).absolute()
    formats.check_formats(regions)
    if folder is not None:
        _check_output(folder)
    with ExitStack() as stack:
        opened = _open_mask(mask, nodata, background)
        stack.callback(opened.source.close)
        under = None
        if image is not None:
            under = image if isinstance(image, Source) else open_source(image)
            if under is not image:
                stack.callback(under.close)
            under = _fitted(under, opened)
        place = _place(opened, under)
        measuring = Measuring.on(
            place.georef,
            BlockGrid(place.shape, opened.block),
            regions.settled(opened.instances, [info.name for info in opened.classes]),
            nodata=opened.marker,
            background=opened.background,
        )
        near = None if folder is None else folder.parent
        read, found = _measured(opened, under, measuring, near, stack, progress)
        if found.nodata == found.grid.shape.area:
            raise InputError("E-MASK-NO-DATA", path=opened.path)
        if folder is not None:
            _write(found, read, opened, regions, place, folder)
    return found


@dataclass(frozen=True, slots=True)
class _Mask:
    """A mask that is read by windows; `nodata` may be negative, what is measured never is.

    classes: names and colours by value, () where they are not known. factors: of its pixels over
    those of the image that it was made from.
    """

    path: str
    source: Source
    block: Size
    nodata: int | None
    background: int | None
    instances: InstanceRule | None
    classes: tuple[ClassInfo, ...]
    factors: Factors

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
    own = _Own()
    if not isinstance(mask, np.ndarray):
        mask, own = _facts(Path(mask))
    source = open_source(mask, palette="index")
    path = source.uri.partition("#")[0]
    if source.dtype.kind == "f":
        raise InputError("E-MASK-DTYPE", dtype=source.dtype)
    if source.bands != 1:
        raise InputError("E-MASK-BANDS", path=path, bands=source.bands)
    stated = None if source.nodata is None else int(source.nodata)
    background = own.background if background == "own" else background
    nodata = stated if nodata == "own" else nodata
    if nodata is not None and nodata == background:
        nodata = None
    block = own.block or _BLOCK
    return _Mask(path, source, block, nodata, background, own.instances, own.classes, own.factors)


@dataclass(frozen=True, slots=True)
class _Own:
    """What a mask says of itself: its background, how a run told instances apart in it, its
    classes, the blocks it is stored in (None where any will do), and its factors."""

    background: int | None = 0
    instances: InstanceRule | None = None
    classes: tuple[ClassInfo, ...] = ()
    block: Size | None = None
    factors: Factors = ONE_TO_ONE


def _facts(path: Path) -> tuple[Path, _Own]:
    """The mask's own path, and what it says of itself."""
    own = _Own()
    if (path / RECEIPT).is_file():
        own = _of_run(path / RECEIPT)
        path = next((p for p in (path / MASK, path / "mask.tif") if p.exists()), path)
    if (path / "0" / "zarr.json").is_file():
        try:
            store = MaskStore.open(path)
        except InputError:
            # Somebody else's zarr, for which there is a reader.
            return path, own
        if store.finished:
            return path, replace(
                own,
                background=store.background,
                classes=store.classes,
                block=store.block,
                factors=store.georef.factors,
            )
    return path, own


def _of_run(receipt: Path) -> _Own:
    try:
        content = unseal(receipt.read_bytes())
        regions = plan_from_json(content["plan"]).regions
        card = Card.model_validate(content["model"])
        instances = None if regions is None else regions.rule
        return _Own(card.background, instances, card.classes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"the receipt is damaged ({error})"
        raise InputError("E-INPUT-READ", path=receipt, reason=reason) from error


def _place(mask: _Mask, image: Source | None) -> Place:
    """Where the mask lies: by itself, or where it does not say so, as the image under it."""
    shape = mask.source.shape
    georef: Georef = mask.source.georef
    if image is None:
        return Place(georef, shape, mask.factors)
    level = image.levels[_level(image, shape)]
    under = image.georef.decimated(level.row_factor, level.col_factor)
    return Place(under if world_units(georef, shape) is None else georef, shape, under.factors)


def _fitted(image: Source, mask: _Mask) -> Source:
    """The image, resampled to the mask's pixels unless one of its levels has its size."""
    fits = any(level.size == mask.source.shape for level in image.levels)
    return image if fits or mask.factors == ONE_TO_ONE else on_grid(image, mask.factors)


def _level(image: Source, shape: Size) -> int:
    """The level of the image that has the mask's size."""
    for number, level in enumerate(image.levels):
        if level.size == shape:
            return number
    raise InputError("E-REGION-IMAGE", image=tuple(image.shape), mask=tuple(shape))


def _measured(
    mask: _Mask,
    image: Source | None,
    measuring: Measuring,
    near: Path | None,
    stack: ExitStack,
    progress: Callable[[int, int], None],
) -> tuple[_Read, RegionTable]:
    """What regions are of, by windows, and their table; `stack` holds what that reads, in a folder
    of its own in `near`, or where this system keeps such folders."""
    assert measuring.options is not None
    level = 0 if image is None else _level(image, measuring.grid.shape)

    def pixels(window: Window) -> NDArray[Any] | None:
        return None if image is None else image.read(window, level)

    rule = measuring.options.rule
    if rule is None:
        tables = _tables(mask, pixels, measuring, progress)
        return mask.read, measuring.merge(tables)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".tilseg-", dir=near)))
    # Each pixel is done twice: its instance is found, and then measured.
    instances = find_instances(
        mask.read, measuring, rule, folder, lambda done, total: progress(done // 2, total)
    )
    found = measure_instances(
        instances, measuring, pixels, lambda done, total: progress((total + done) // 2, total)
    )
    return instances.read, found


def _tables(
    mask: _Mask,
    image: Callable[[Window], NDArray[Any] | None],
    measuring: Measuring,
    progress: Callable[[int, int], None],
) -> Iterator[BlockTable]:
    """The tables of all blocks in raster order, a few of them measured ahead."""

    def one(window: Window) -> BlockTable:
        table, _ = measuring.block(mask.read(window), window, image(window))
        assert table is not None
        return table

    done = 0
    for table in ahead(one, measuring.grid):
        done += table.window.size.area
        progress(done, table.shape.area)
        yield table


def _check_output(output: Path) -> None:
    """Raises ExistsError E-MEASURE-EXISTS for anything but an earlier measurement, OutputError
    E-OUTPUT-PARENT where its folder does not exist."""
    if not output.parent.is_dir():
        raise OutputError("E-OUTPUT-PARENT", path=output, parent=output.parent)
    if os.path.lexists(output):
        names = {path.name for path in output.iterdir()} if output.is_dir() else {""}
        if not names <= {CSV, PARQUET, LABELS, *formats.NAMES}:
            raise ExistsError("E-MEASURE-EXISTS", path=output)


def _write(
    regions: RegionTable,
    read: _Read,
    mask: _Mask,
    options: RegionOptions,
    place: Place,
    output: Path,
) -> None:
    """Write the directory `output`; it appears when it is complete, in place of an older one."""
    with writing(output), replacing(output) as ready:
        write_tables(regions, ready)
        if options.labels:
            write_labels(
                ready / LABELS,
                label_blocks(read, regions),
                shape=regions.grid.shape,
                block=regions.grid.block,
                name=Path(mask.path).stem,
                georef=mask.source.georef,
            )
        if options.polygons:
            blocks = label_blocks(read, regions)
            write_polygons(regions, blocks, options, place, mask.classes, ready)
