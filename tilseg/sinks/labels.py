"""The number of every pixel's region: an OME-Zarr 0.5 label image of uint32."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import OutputError
from tilseg.georef import Georef
from tilseg.sink import Progress
from tilseg.sinks.ngff import labels_json
from tilseg.sinks.shards import BlockArray, replace_bytes
from tilseg.sinks.zarr import build_pyramid
from tilseg.window import Size, Window


def write_labels(
    path: Path,
    blocks: Iterable[tuple[Window, NDArray[Any]]],
    *,
    shape: Size,
    block: Size,
    name: str,
    georef: Georef,
    progress: Progress | None = None,
) -> None:
    """Write `labels.zarr` at `path` and read every block back; one that is there is completed.

    blocks: every block of the image with its labels, (rows, cols) uint32, 0 for no region.
    block: of a whole one. progress: called with (pixels done, pixels) of level 0.

    Raises OutputError E-OUTPUT-WRITE or E-OUTPUT-READBACK.
    """
    level0 = BlockArray.create(path / "0", shape, block, dtype=np.uint32)
    done = 0
    for window, labels in blocks:
        if level0.commit(window, labels) != level0.block_crc(window):
            reason = f"other labels at {window}"
            raise OutputError("E-OUTPUT-READBACK", path=path, reason=reason)
        done += window.size.area
        if progress is not None:
            progress(done, shape.area)
    levels = build_pyramid(path, level0, None)
    replace_bytes(path / "zarr.json", labels_json(name, georef, levels))
