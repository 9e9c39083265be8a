"""How a mask is cut into blocks: all that the seam pass needs of a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tilseg.window import Size, Window


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """A mask of `shape` in blocks of `block` pixels from pixel (0, 0), numbered in raster order.

    Any block size will do; the last blocks of a row or column are cropped to the mask. The
    blocks of a `plan.TileGrid` are those of `BlockGrid(grid.shape, grid.block)`.
    """

    shape: Size
    block: Size

    def __post_init__(self) -> None:
        if min(*self.shape, *self.block) < 1:
            raise ValueError(f"empty grid: {self}")

    @property
    def counts(self) -> Size:
        """How many block rows and block columns there are."""
        return Size(-(-self.shape.rows // self.block.rows), -(-self.shape.cols // self.block.cols))

    def __len__(self) -> int:
        return self.counts.area

    def window(self, index: int) -> Window:
        """The pixels of block number `index`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        row, col = divmod(index, self.counts.cols)
        corner = Window(row * self.block.rows, col * self.block.cols, *self.block)
        return corner.intersection(Window.whole(self.shape))

    def index(self, window: Window) -> int:
        """The number of the block that is `window`; ValueError when it is none of them."""
        row, col = window.row // self.block.rows, window.col // self.block.cols
        index = row * self.counts.cols + col
        if not 0 <= index < len(self) or self.window(index) != window:
            raise ValueError(f"{window} is not a block of {self}")
        return index

    def __iter__(self) -> Iterator[Window]:
        return (self.window(index) for index in range(len(self)))
