"""A source that shows another image: on another grid, or read in another way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tilseg.georef import Georef
from tilseg.source import Level, Source
from tilseg.sources.base import BaseSource


class DerivedSource(BaseSource):
    """`image`, with all that it says of itself but for `levels` and `georef` where they are given.

    A subclass writes `_read`, `_mask` (without it no pixel is masked), and `__reduce__` where it is
    not to be pickled as `image` alone.
    """

    def __init__(
        self,
        image: Source,
        *,
        levels: tuple[Level, ...] | None = None,
        georef: Georef | None = None,
    ) -> None:
        super().__init__(
            uri=image.uri,
            reader=image.reader,
            dtype=image.dtype,
            band_names=image.band_names,
            levels=image.levels if levels is None else levels,
            georef=image.georef if georef is None else georef,
            nodata=image.nodata,
            notes=image.notes,
            segment_bytes=image.segment_bytes,
            recorded=image.recorded,
        )
        self.image = image

    @property
    def files(self) -> tuple[Path, ...]:
        return self.image.files

    def identity(self) -> dict[str, Any]:
        return self.image.identity()

    def close(self) -> None:
        self.image.close()
