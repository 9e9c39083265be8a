"""What a finished mask is to its exports, and the registry of what it can be exported to.

A new output is one file in `tilseg/sinks/`, one line in `_SINKS` and one contract test class.
Blocks are committed to `mask.zarr` alone (`tilseg.sinks.zarr.MaskStore`); an export pulls the
windows it wants from the finished mask, because no file format has tiles that fit any block
(docs/design/0001-sinks.md). Importing this module loads no image library.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tilseg.card import ClassInfo
from tilseg.errors import UsageError, nearest
from tilseg.georef import Georef
from tilseg.source import Level
from tilseg.window import Size, Window

# Called with (steps done, steps in all) as work goes on.
Progress = Callable[[int, int], None]


class Mask(Protocol):
    """A finished mask of class values, read by windows.

    name: what viewers show. shape: size in pixels. dtype: uint8 or uint16.
    nodata: 255 or 65535; never a class. classes: the value of each is its position.
    background: the class that is no region, or None. georef: the place of level 0.
    levels: level 0 first; each next one is every second row and column of the one before.
    provenance: how it was made, as short texts by name: "software", "model", ... Never a time.
    """

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Size: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def nodata(self) -> int: ...
    @property
    def classes(self) -> tuple[ClassInfo, ...]: ...
    @property
    def background(self) -> int | None: ...
    @property
    def georef(self) -> Georef: ...
    @property
    def levels(self) -> tuple[Level, ...]: ...
    @property
    def provenance(self) -> Mapping[str, str]: ...

    def read(self, window: Window, level: int = 0) -> NDArray[Any]:
        """Class values of a window inside `level`: (rows, cols), C order, of `dtype`."""
        ...


@runtime_checkable
class Sink(Protocol):
    """An output format that a finished mask is exported to.

    suffix: how the names of its files end.
    """

    @property
    def suffix(self) -> str: ...

    def write(self, mask: Mask, path: Path, progress: Progress | None = None) -> None:
        """Write `mask` to `path`, in memory that does not grow with the image.

        The file appears under its name when it is complete, and replaces one that is there;
        after a failure nothing is left. It is for the caller to read it back. The same mask
        gives the same bytes.

        Raises OutputError E-OUTPUT-WRITE, or DamageError E-DAMAGE-BLOCK from the mask.
        """
        ...


# name -> (module, class)
_SINKS: dict[str, tuple[str, str]] = {
    "geotiff": ("tilseg.sinks.geotiff", "GeoTiff"),
    "ometiff": ("tilseg.sinks.ometiff", "OmeTiff"),
}


def registered_sinks() -> tuple[str, ...]:
    """Names of all exports."""
    return tuple(_SINKS)


def load_sink(name: str) -> Sink:
    """The export called `name`; raises UsageError E-OPTION, listing what there is."""
    if name not in _SINKS:
        allowed = ", ".join(_SINKS) + nearest(name, _SINKS)
        raise UsageError("E-OPTION", option="format", value=name, allowed=allowed)
    module, kind = _SINKS[name]
    sink: Sink = getattr(importlib.import_module(module), kind)()
    return sink


def windows_of(shape: Size, step: Size) -> Iterator[Window]:
    """Windows of `step` pixels over `shape` in raster order, clipped to it."""
    whole = Window.whole(shape)
    for row in range(0, shape.rows, step.rows):
        for col in range(0, shape.cols, step.cols):
            yield Window(row, col, *step).intersection(whole)
