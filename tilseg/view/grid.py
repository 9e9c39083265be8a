"""The pyramid of small tiles in which a page asks for what it shows."""

from __future__ import annotations

from dataclasses import dataclass

from tilseg.window import Size, Window

TILE = 256
# Pixels that a tile shares with its neighbours: without them OpenSeadragon stretches each tile by
# one pixel of the screen, to hide seams.
OVERLAP = 1


@dataclass(frozen=True, slots=True)
class ViewGrid:
    """Tiles of `TILE` pixels, and `OVERLAP` more on inner sides, over an image of `shape`.

    Zoom 0 is the image itself; a pixel of zoom z spans 2^z x 2^z of its pixels, from its corner
    on, and the last zoom fits into one tile.
    """

    shape: Size

    @property
    def zooms(self) -> int:
        """How many there are."""
        zooms = 1
        while max(self.size(zooms - 1)) > TILE:
            zooms += 1
        return zooms

    def size(self, zoom: int) -> Size:
        """Pixels of a zoom; the last row and column may reach beyond the image."""
        return Size(*(-(-side // 2**zoom) for side in self.shape))

    def tile(self, zoom: int, row: int, col: int) -> Window | None:
        """The pixels of one tile in its zoom; None where there is no such tile."""
        if not 0 <= zoom < self.zooms or row < 0 or col < 0:
            return None
        whole = Window.whole(self.size(zoom))
        tile = Window(row * TILE, col * TILE, TILE, TILE)
        if not tile.intersection(whole).size.area:
            return None
        side = TILE + 2 * OVERLAP
        return Window(tile.row - OVERLAP, tile.col - OVERLAP, side, side).intersection(whole)
