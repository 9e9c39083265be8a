"""Whether a JPEG is there to its end.

Decoders fill what is missing with grey and return as if nothing were wrong, which after an
interrupted copy is the rest of the image. Both JPEG (ITU T.81) and JPEG 2000 (ITU T.800) streams
end with the marker FFD9; TIFF writers may pad it with zeros.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.sources import tiff_header as tags
from tilseg.sources.tiff_header import Directory
from tilseg.window import Size, Window

_END = b"\xff\xd9"
_JPEG = 7
# More padding than any writer leaves.
_TAIL = 4096


def has_end(stored: bytes) -> bool:
    """Whether the bytes of a strip or tile end as a JPEG or JPEG 2000 stream does."""
    return stored.rstrip(b"\0").endswith(_END)


class JpegEnds:
    """Looks at the ends of the strips and tiles that a window touches, at any level.

    For readers that hand out pixels and not bytes; levels that are no JPEG are passed.
    """

    def __init__(self, path: Path, directories: Iterable[Directory]) -> None:
        self.path = path
        self._by_size = {
            Size(one.rows, one.cols): one
            for one in directories
            if not one.is_mask and one.number(tags.COMPRESSION, 1) == _JPEG
        }

    def check(self, window: Window, level: Size) -> None:
        """Raises InputError E-INPUT-READ, naming the first strip or tile without its end.

        level: size of the level that `window` is in.
        """
        directory = self._by_size.get(level)
        if directory is None:
            return
        offsets, counts = directory.places
        with self.path.open("rb") as file:
            for index in _touched(directory, window):
                offset, count = int(offsets[index]), int(counts[index])
                tail = min(count, _TAIL)
                file.seek(offset + count - tail)
                if count and not has_end(file.read(tail)):
                    kind = directory.segments.kind
                    reason = f"{window} can't be read: {kind} {index} ends in the middle of a JPEG"
                    raise InputError("E-INPUT-READ", path=self.path, reason=reason)


def _touched(directory: Directory, window: Window) -> NDArray[np.int64]:
    """Numbers of the strips or tiles, in every plane, that share pixels with `window`."""
    segments = directory.segments
    down, across = segments.grid
    rows = np.arange(window.row // segments.rows, (window.row_stop - 1) // segments.rows + 1)
    cols = np.arange(window.col // segments.cols, (window.col_stop - 1) // segments.cols + 1)
    planes = np.arange(segments.planes)
    touched: NDArray[np.int64] = np.add.outer(
        planes * down * across, np.add.outer(rows * across, cols)
    ).ravel()
    return touched
