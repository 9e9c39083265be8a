"""Images stored turned or mirrored, as the Orientation tag of TIFF 6.0 and EXIF says."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tilseg.georef import PixelSize
from tilseg.window import Size, Window

# orientation -> transposed, rows flipped, columns flipped, in this order from stored to seen
_STEPS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


class Turn:
    """The way from stored to seen pixels; false for 1, for 0 and for numbers without meaning."""

    def __init__(self, orientation: int) -> None:
        self._turns = orientation in _STEPS
        self._transposed, self._rows, self._cols = _STEPS.get(orientation, (False, False, False))

    def __bool__(self) -> bool:
        return self._turns

    def size(self, stored: Size) -> Size:
        """Size as seen."""
        return Size(stored.cols, stored.rows) if self._transposed else stored

    def pixel(self, stored: PixelSize | None) -> PixelSize | None:
        """Pixel size as seen."""
        if stored is None or not self._transposed:
            return stored
        return PixelSize(stored.cols, stored.rows, stored.unit)

    def stored(self, seen: Window, size: Size) -> Window:
        """The stored pixels of a window of an image seen with `size`."""
        row = size.rows - seen.row_stop if self._rows else seen.row
        col = size.cols - seen.col_stop if self._cols else seen.col
        if self._transposed:
            return Window(col, row, seen.cols, seen.rows)
        return Window(row, col, seen.rows, seen.cols)

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Stored pixels (rows, cols, ...) as seen: a view."""
        if self._transposed:
            pixels = pixels.swapaxes(0, 1)
        return pixels[:: -1 if self._rows else 1, :: -1 if self._cols else 1]
