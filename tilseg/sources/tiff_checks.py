"""What is refused from the header of a TIFF alone, before a library or a plan is let near it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError
from tilseg.sources.address import Stored
from tilseg.sources.limits import MAX_SEGMENT, check_stored, too_large
from tilseg.sources.tiff_header import Directory, Segments

# Samples per pixel beyond which a header is taken for damage: hyperspectral images have
# hundreds of bands, bombs declare 65,535.
MAX_SAMPLES = 4096


def check_directory(directory: Directory) -> None:
    """Raise InputError unless sizes are possible and every strip or tile is in the file.

    E-INPUT-READ: damaged header. E-INPUT-SEGMENT: one compressed strip or tile too large.
    E-INPUT-TRUNCATED: names the first strip or tile that is not there. E-INPUT-SPARSE: a giant
    of which next to nothing is stored.
    """
    if directory.rows < 1 or directory.cols < 1:
        raise directory.refuse(f"declares {directory.rows} x {directory.cols} pixels")
    if not 1 <= directory.samples <= MAX_SAMPLES:
        raise directory.refuse(f"declares {directory.samples} bands")
    segments = directory.segments
    offsets, counts = directory.places
    if directory.segment_bytes > MAX_SEGMENT:
        raise too_large(directory.path, segments.kind, directory.segment_bytes)
    check_segments(directory.path, segments, offsets, counts)
    check_stored(
        directory.path,
        pixels=directory.rows * directory.cols,
        stored=int(np.count_nonzero(counts[: segments.count])),
        count=segments.count,
        kind=segments.kind,
    )


def check_segments(
    path: Stored, segments: Segments, offsets: NDArray[Any], counts: NDArray[Any]
) -> None:
    """Raise InputError E-INPUT-TRUNCATED, naming the first strip or tile not in the file."""
    if min(len(offsets), len(counts)) < segments.count:
        raise InputError(
            "E-INPUT-TRUNCATED",
            path=path,
            reason=f"lists {min(len(offsets), len(counts))} of {segments.count} {segments.kind}s",
        )
    size = path.stat().st_size
    offsets = offsets[: segments.count].astype(np.uint64)
    counts = counts[: segments.count].astype(np.uint64)
    # A sum beyond 64 bits wraps; neither term alone may pass the size, so test them apart.
    outside = (counts > size) | (offsets > size) | (offsets + counts > size)
    if not outside.any():
        return
    first = int(outside.argmax())
    row, col = divmod(first % (segments.grid[0] * segments.grid[1]), segments.grid[1])
    raise InputError(
        "E-INPUT-TRUNCATED",
        path=path,
        reason=f"{segments.kind} {first} (rows from {row * segments.rows}, cols from "
        f"{col * segments.cols}) ends at byte {int(offsets[first]) + int(counts[first]):,}, "
        f"the file has {size:,}",
    )
