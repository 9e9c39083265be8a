"""What a map of classes is to a comparison, whatever it was stored as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tilseg.georef import Georef
from tilseg.window import Size, Window

# In the uint16 pixels of a class map: no class is known here.
IGNORED = 65535
# Codes of classes are uint8, and 255 is none.
MAX_CLASSES = 255


class Grid(Protocol):
    """What a class map can be brought to: an image or another map; path is for messages."""

    @property
    def path(self) -> str: ...
    @property
    def shape(self) -> Size: ...
    @property
    def georef(self) -> Georef: ...


class ClassMap(Protocol):
    """Classes by pixel, read by windows.

    path: for messages. shape, georef: of its grid. values: the classes that occur, ascending.
    names, colors: of classes, where they are known; colours are "#rrggbb".
    background: the class that forms no objects, or None.
    notes: what the user should know of how it was read, one sentence each.
    """

    @property
    def path(self) -> str: ...
    @property
    def shape(self) -> Size: ...
    @property
    def georef(self) -> Georef: ...
    @property
    def values(self) -> tuple[int, ...]: ...
    @property
    def names(self) -> Mapping[int, str]: ...
    @property
    def colors(self) -> Mapping[int, str]: ...
    @property
    def background(self) -> int | None: ...
    @property
    def notes(self) -> tuple[str, ...]: ...

    def read(self, window: Window) -> NDArray[np.uint16]:
        """Class values of a window inside the map: (rows, cols), IGNORED where there is none.

        The same pixels have the same values in every window.
        """
        ...

    def close(self) -> None: ...
