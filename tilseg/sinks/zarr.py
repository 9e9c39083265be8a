"""The committed mask: an OME-Zarr 0.5 label image that is written block by block."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tilseg.card import ClassInfo
from tilseg.errors import InputError
from tilseg.georef import Georef
from tilseg.side_by_side import side_by_side
from tilseg.sink import Progress, windows_of
from tilseg.sinks.ngff import MaskInfo, group_json, parse_group_json
from tilseg.sinks.shards import BlockArray, chunk_side, replace_bytes
from tilseg.source import Level
from tilseg.window import Size, Window

_SMALLEST = 512  # pixels: the last level is no larger on either side


class MaskStore:
    """`mask.zarr`: class values in blocks, then a pyramid, then the metadata of an image.

    Until `finish` has written the group's metadata, the last of all, it does not open as an
    image anywhere. A finished one is a `tilseg.sink.Mask`. It holds no open file; send its
    `path` to another process and open it there.
    """

    def __init__(self, path: Path, level0: BlockArray) -> None:
        self.path = path
        self._arrays = [level0]
        self._info: MaskInfo | None = None

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        shape: Size,
        block: Size,
        *,
        dtype: DTypeLike = np.uint8,
    ) -> MaskStore:
        """The store at `path`, made where it is not there; blocks that are there stay.

        shape: of the image; block: of a whole block; dtype: uint8 or uint16.

        Raises ExistsError E-EXISTS where there is one of another shape, block or dtype,
        OutputError E-OUTPUT-WRITE where it can't be written.
        """
        BlockArray.create(Path(path) / "0", shape, block, dtype=dtype)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> MaskStore:
        """The store at `path`, finished or not, from its metadata alone.

        Raises InputError E-INPUT-MISSING or E-INPUT-FORMAT for anything that is not one.
        """
        path = Path(path)
        store = cls(path, BlockArray.open(path / "0"))
        group = path / "zarr.json"
        if group.is_file():
            store._load(group)
        return store

    def _load(self, group: Path) -> None:
        try:
            self._info = parse_group_json(group.read_bytes())
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise InputError(
                "E-INPUT-FORMAT",
                path=self.path,
                reason=f"has bad metadata ({error!r})",
                expected="a mask.zarr of tilseg",
            ) from error
        coarser = range(1, len(pyramid(self.shape)))
        self._arrays[1:] = [BlockArray.open(self.path / str(level)) for level in coarser]

    @property
    def shape(self) -> Size:
        return self._arrays[0].shape

    @property
    def block(self) -> Size:
        return self._arrays[0].block

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._arrays[0].dtype

    @property
    def nodata(self) -> int:
        return self._arrays[0].nodata

    @property
    def levels(self) -> tuple[Level, ...]:
        """Level 0 first; the others only once the store is finished."""
        return tuple(
            Level(array.shape, float(2**level), float(2**level))
            for level, array in enumerate(self._arrays)
        )

    @property
    def finished(self) -> bool:
        return self._info is not None

    @property
    def name(self) -> str:
        return self._finished.name

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        return self._finished.classes

    @property
    def background(self) -> int | None:
        return self._finished.background

    @property
    def georef(self) -> Georef:
        return self._finished.georef

    @property
    def provenance(self) -> Mapping[str, str]:
        return self._finished.provenance

    @property
    def _finished(self) -> MaskInfo:
        if self._info is None:
            raise ValueError(f"{self.path} is not finished: it has no classes or place yet")
        return self._info

    def commit(self, window: Window, labels: NDArray[Any], attempt: str = "") -> int:
        """Store the class values of one block; see `BlockArray.commit`."""
        return self._arrays[0].commit(window, labels, attempt)

    def read(self, window: Window, level: int = 0) -> NDArray[Any]:
        """Class values of a window inside `level`: (rows, cols); see `BlockArray.read`."""
        return self._arrays[level].read(window)

    def block_crc(self, window: Window) -> int:
        """What `commit` returned for the class values now stored; raises as `read` does."""
        return self._arrays[0].block_crc(window)

    def finish(
        self,
        *,
        name: str,
        classes: Sequence[ClassInfo],
        georef: Georef,
        background: int | None,
        provenance: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Build the pyramid, then make it an image: once every block is committed.

        Each level is every second row and column of the one before, down to one that fits in
        512 x 512, built shard by shard in the memory of a few rows of chunks. Interrupted and
        run again, it ends in the same bytes.

        provenance: see `tilseg.sink.Mask`. progress: called with (shards done, shards in all).

        Raises OutputError E-OUTPUT-WRITE, DamageError E-DAMAGE-BLOCK for a damaged block.
        """
        levels = build_pyramid(self.path, self._arrays[0], progress)
        info = MaskInfo(name, tuple(classes), background, georef, provenance or {})
        group = self.path / "zarr.json"
        replace_bytes(group, group_json(info, levels, self.nodata))
        self._load(group)


def build_pyramid(path: Path, level0: BlockArray, progress: Progress | None) -> int:
    """Make the levels above `level0` in the group at `path`; returns how many there are in all."""
    shapes = pyramid(level0.shape)
    total = sum(len(list(windows_of(shape, level0.block))) for shape in shapes[1:])
    done = 0
    for level, shape in enumerate(shapes[1:], start=1):
        finer = BlockArray.open(path / str(level - 1))
        coarser = BlockArray.create(
            path / str(level), shape, level0.block, dtype=level0.dtype, bands=level0.bands
        )

        def build(window: Window, finer: BlockArray = finer, coarser: BlockArray = coarser) -> None:
            coarser.commit(window, _decimated(finer, window))

        # A block, a copy of it that is encoded, and a strip of the finer level.
        bytes_each = 3 * level0.block.area * level0.dtype.itemsize * (level0.bands or 1)
        for _ in side_by_side(build, coarser.windows(), bytes_each):
            done += 1
            if progress is not None:
                progress(done, total)
    return len(shapes)


def pyramid(shape: Size) -> list[Size]:
    """Sizes of level 0 and of its levels of every second pixel, until one fits in 512 x 512."""
    sizes = [shape]
    while max(sizes[-1]) > _SMALLEST:
        sizes.append(Size(*(-(-side // 2) for side in sizes[-1])))
    return sizes


def _decimated(finer: BlockArray, window: Window) -> NDArray[Any]:
    """`window` of the level that is every second pixel of `finer`."""
    lead = () if finer.bands is None else (finer.bands,)
    pixels = np.empty((*lead, *window.size), finer.dtype)
    # In strips of two rows of chunks, so that each chunk is decoded once and four blocks are
    # never in memory together.
    step = chunk_side(finer.block.rows)
    for row in range(0, window.rows, step):
        strip = pixels[..., row : row + step, :]
        rows = min(2 * strip.shape[-2], finer.shape.rows - 2 * (window.row + row))
        cols = min(2 * window.cols, finer.shape.cols - 2 * window.col)
        wanted = Window(2 * (window.row + row), 2 * window.col, rows, cols)
        strip[...] = finer.read(wanted)[..., ::2, ::2]
    return pixels
