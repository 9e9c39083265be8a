"""The frozen plan of a run: which tiles, in which blocks, with which settings.

A tile is one network input (its read window) and its output (its write window). A block is
what is committed: a rectangle of whole tiles, one zarr shard. Nothing here opens a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tilseg.georef import Factors
from tilseg.instance_rule import InstanceRule, settled
from tilseg.model import BandStatistics, Precision, Ranges, Tta
from tilseg.receptive_field import ReceptiveField
from tilseg.selection import EVERYTHING, Selection
from tilseg.window import Size, Window


@dataclass(frozen=True, slots=True)
class Tile:
    """One network input and what is kept of its output.

    read: window of the mirrored image that the network sees; may reach outside the image.
    write: the pixels it owns, inside the image.
    The network's output begins at the corner of `write`; what lies beyond it is dropped.
    """

    read: Window
    write: Window


@dataclass(frozen=True, slots=True)
class Block:
    """One unit of commit: number `index` in raster order.

    write: the pixels it owns, inside the image.
    read: the window of the mirrored image that covers the read windows of all its tiles.
    """

    index: int
    write: Window
    read: Window
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class TileGrid:
    """Tiles of `tile` output pixels and blocks of `tiles_per_block` tiles, from pixel (0, 0).

    shape: the image. tile: output step of a tile, a multiple of the field's stride, the same
    for every tile of the run; the last one overhangs and is cropped, never shifted inward.
    """

    shape: Size
    field: ReceptiveField
    tile: Size
    tiles_per_block: Size

    def __post_init__(self) -> None:
        for step in self.tile:
            self.field.check_step(step)
        if min(*self.shape, *self.tiles_per_block) < 1:
            raise ValueError(f"empty grid: {self}")

    @property
    def input(self) -> Size:
        """Size of every network input."""
        return Size(self.field.input_for(self.tile.rows), self.field.input_for(self.tile.cols))

    @property
    def block(self) -> Size:
        """Size of a whole block; those at the right and bottom are cropped to the image."""
        return Size(
            self.tile.rows * self.tiles_per_block.rows, self.tile.cols * self.tiles_per_block.cols
        )

    @property
    def read(self) -> Size:
        """Size of what a whole block reads."""
        rows, cols = (
            block + wide - tile
            for block, wide, tile in zip(self.block, self.input, self.tile, strict=True)
        )
        return Size(rows, cols)

    @property
    def tile_counts(self) -> Size:
        return _counts(self.shape, self.tile)

    @property
    def block_counts(self) -> Size:
        return _counts(self.shape, self.block)

    @property
    def redundancy(self) -> float:
        """Pixels the network computes over pixels kept."""
        return self.tile_counts.area * self.input.area / self.shape.area

    def __len__(self) -> int:
        return self.block_counts.area

    def window_at(self, index: int) -> Window:
        """The pixels that block number `index` in raster order owns."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, col = divmod(index, self.block_counts.cols)
        corner = Window(row * self.block.rows, col * self.block.cols, *self.block)
        return corner.intersection(Window.whole(self.shape))

    def block_at(self, index: int) -> Block:
        """Block number `index` in raster order, with its tiles in raster order."""
        write = self.window_at(index)
        tiles = tuple(self._tiles(write))
        last = tiles[-1].read
        first = tiles[0].read
        read = Window(first.row, first.col, last.row_stop - first.row, last.col_stop - first.col)
        return Block(index, write, read, tiles)

    def _tiles(self, block: Window) -> Iterator[Tile]:
        halo, rows, cols = self.field.halo, *self.input
        for row in range(block.row, block.row_stop, self.tile.rows):
            for col in range(block.col, block.col_stop, self.tile.cols):
                write = Window(row, col, *self.tile).intersection(block)
                yield Tile(Window(row - halo, col - halo, rows, cols), write)

    def __iter__(self) -> Iterator[Block]:
        return (self.block_at(index) for index in range(len(self)))


def _counts(shape: Size, step: Size) -> Size:
    return Size(-(-shape.rows // step.rows), -(-shape.cols // step.cols))


AreaUnit = Literal["px", "um2", "mm2", "m2", "ha", "km2"]
PolygonFormat = Literal["geojson", "geoparquet", "gpkg", "fgb"]


@dataclass(frozen=True, slots=True)
class RegionOptions:
    """How regions are measured.

    connectivity: 8 joins pixels over edges and corners, 4 over edges only. shape: also measure
        convex hulls. labels: also write the number of every pixel's region.
    min_area, area_unit: regions below this area are left out, in pixels or in the world.
    instances: how objects of one class that touch are told apart; None where what touches is one
        region. "own": as the model's card says, or, of a mask that a run made, as that did.
    only: the classes whose regions are wanted, all where empty.
    polygons: formats to write their outlines in. simplify: by about how many pixels these may
        be simplified.
    """

    connectivity: Literal[4, 8] = 8
    shape: bool = False
    labels: bool = False
    min_area: float = 0.0
    area_unit: AreaUnit = "px"
    only: tuple[int, ...] = ()
    polygons: tuple[PolygonFormat, ...] = ()
    simplify: float = 0.0
    instances: InstanceRule | Literal["own"] | None = "own"

    def settled(self, own: InstanceRule | None, names: Sequence[str]) -> RegionOptions:
        """With `own` in place of "own", and the border class found among the classes' `names`.

        Raises UsageError E-INSTANCE-BORDER.
        """
        rule = own if self.instances == "own" else self.instances
        return replace(self, instances=settled(rule, names))

    @property
    def rule(self) -> InstanceRule | None:
        """`instances` of options that are settled."""
        if self.instances == "own":
            raise ValueError("these options are not settled")
        return self.instances


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides a pixel of the result, frozen at the first start of a run.

    source, level, bands: the image's uri, the pyramid level read, 0-based bands in the
        model's order. factors: pixels of level 0 that a pixel of the grid spans where the image
        is resampled, which then has one level; None where it is not. model, model_sha256: where the model is and what it holds.
    statistics: resolved normalisation constants. nodata: the source's nodata value.
    probabilities: whether they are kept beside the classes.
    regions: how regions are measured; None where they are not.
    selection: which pixels are segmented at all.
    precision, device, threads: how the network runs; device is a kind, "cpu" or "cuda".
    ranges: of the network's maps, found on windows of the image, where precision is int8.
    tta: what its predictions are averaged over.
    lanes: predictions at once in one process, each of `threads` CPU threads. It changes no
        pixel, and a resume may take another.
    keep_rows: whether rows of an image in strips are decoded whole and kept for the blocks beside
        each other. It changes no pixel either.
    auto: names of the fields tilseg chose itself; a resume takes them from the first start.
    """

    grid: TileGrid
    source: str
    level: int
    bands: tuple[int, ...]
    model: str
    model_sha256: str
    statistics: BandStatistics
    precision: Precision
    device: Literal["cpu", "cuda"]
    threads: int
    tta: Tta = "none"
    ranges: Ranges = ()
    lanes: int = 1
    keep_rows: bool = False
    probabilities: bool = False
    regions: RegionOptions | None = RegionOptions(instances=None)
    factors: Factors | None = None
    selection: Selection = EVERYTHING
    auto: tuple[str, ...] = ()

    @property
    def redundancy(self) -> float:
        """Pixels the network computes over pixels kept."""
        return self.grid.redundancy * (8 if self.tta == "d4" else 1)

    @property
    def workers(self) -> int:
        """Blocks under way at once in one process, unless it is told otherwise."""
        return workers_for(self.grid, self.lanes)


def workers_for(grid: TileGrid, lanes: int) -> int:
    """Blocks enough to keep the lanes busy while one is read ahead and one written behind."""
    return 2 + -(-lanes // grid.tiles_per_block.area)
