"""What an image is to tilseg, and the registry of what can be opened.

A new format is one file in `tilseg/sources/`, one line in `_READERS` and one contract test
class. Importing this module loads no image library.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tilseg.choice import Choice, pixel_size_text, split_uri
from tilseg.errors import InputError
from tilseg.georef import Georef
from tilseg.magic import describe, first_bytes
from tilseg.names import common_name, file_names, is_address, joined, public_address
from tilseg.window import Size, Window


@dataclass(frozen=True, slots=True)
class Level:
    """One pyramid level: its size and how many level-0 pixels one of its pixels spans.

    strip: rows of a strip, where pixels are stored in strips as wide as the level and few columns
        cost as much as all; else 0.
    """

    size: Size
    row_factor: float
    col_factor: float
    strip: int = field(default=0, compare=False)


@runtime_checkable
class Source(Protocol):
    """An image that is read by windows.

    Opening reads metadata only; `read` and `mask` are thread-safe; pickling means reopening
    by `uri`. A source only ever sees windows inside its level: mirroring is done for it.

    uri: what `open_source` reopens.
    reader: the library that decodes it, for the receipt.
    shape: size of level 0 in pixels.
    bands: number of bands; dtype: of a pixel value.
    georef: the place of level 0.
    levels: level 0 first, then ever coarser ones.
    nodata: the value that marks missing pixels (may be NaN), or None.
    band_names: one a band, "" where the file names none.
    notes: what the user should know of how the file was read, one sentence each.
    segment_bytes: memory that one pixel costs: the decoded bytes of the largest strip, tile or
        chunk, which are decoded whole; 0 where rows are read as they lie.
    recorded: when it was made, as the file says ("2026-06-01T10:30:00Z", taken for UTC), or None.
    files: the files and folders it is read from, which no output may touch.
    """

    @property
    def uri(self) -> str: ...
    @property
    def reader(self) -> str: ...
    @property
    def shape(self) -> Size: ...
    @property
    def bands(self) -> int: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def georef(self) -> Georef: ...
    @property
    def levels(self) -> tuple[Level, ...]: ...
    @property
    def nodata(self) -> float | None: ...
    @property
    def band_names(self) -> tuple[str, ...]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def segment_bytes(self) -> int: ...
    @property
    def recorded(self) -> str | None: ...
    @property
    def files(self) -> tuple[Path, ...]: ...

    def read(
        self, window: Window, level: int = 0, bands: Sequence[int] | None = None
    ) -> NDArray[Any]:
        """Pixels of `window` of `level`: (rows, cols, len(bands)), C order, own dtype.

        bands: 0-based, in the order wanted, repeats allowed; None for all.
        Raises InputError E-INPUT-READ or E-INPUT-TRUNCATED when they can't be decoded.
        """
        ...

    def mask(self, window: Window, level: int = 0) -> NDArray[np.bool_] | None:
        """Where alpha or an internal mask leaves pixels valid: (rows, cols), or None if all.

        `nodata` is not applied here: that is done once, for every source alike.
        """
        ...

    def identity(self) -> dict[str, Any]:
        """What must not change between the start of a run and its end, as plain JSON."""
        ...

    def close(self) -> None: ...


def image_name(uri: str) -> str:
    """The name of the file behind a source's uri, without its suffix, or that of a scene."""
    return common_name(file_names(split_uri(uri)[0]))


# name -> (module, function that says from path and first bytes whether to try it). The order
# is the order of asking; the module is imported only when its turn comes, and its `open_path`
# may return None: not mine, ask the next.
_READERS: dict[str, tuple[str, Callable[[Path, bytes], bool]]] = {}


def register_source(name: str, module: str, claims: Callable[[Path, bytes], bool]) -> None:
    """Add a reader: `module` has `open_path(path, choice) -> Source | None`.

    `claims` says from the path and the first 512 bytes whether to import and ask it; for a
    directory the bytes are empty.
    """
    _READERS[name] = (module, claims)


def registered_sources() -> tuple[str, ...]:
    """Names of all readers, in the order they are asked."""
    return tuple(_READERS)


def _is_tiff(_path: Path, head: bytes) -> bool:
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _is_picture(_path: Path, head: bytes) -> bool:
    return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))


def _is_zarr(path: Path, _head: bytes) -> bool:
    return any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def _is_vrt(_path: Path, head: bytes) -> bool:
    return head.lstrip().startswith(b"<") and b"<VRTDataset" in head


# The first bytes of an MRXS are a JPEG, and those of others a TIFF of one huge strip or of
# tiles that must be stitched: the name says what it is.
_SLIDES = (".bif", ".czi", ".mrxs", ".ndpi", ".scn", ".svslide", ".vms", ".vmu")


def _is_slide(path: Path, head: bytes) -> bool:
    is_dicom = head[128:132] == b"DICM" and not _is_tiff(path, head)
    return is_dicom or (bool(head) and path.suffix.lower() in _SLIDES)


register_source("openslide", "tilseg.sources.openslide", _is_slide)
register_source("geotiff", "tilseg.sources.geotiff", _is_tiff)
register_source("tiff", "tilseg.sources.tiff", _is_tiff)
register_source("picture", "tilseg.sources.picture", _is_picture)
register_source("zarr", "tilseg.sources.zarr", _is_zarr)
register_source("vrt", "tilseg.sources.vrt", _is_vrt)

_EXPECTED = "a TIFF (GeoTIFF, BigTIFF, OME-TIFF, SVS), a slide (MRXS, NDPI, DICOM), a PNG, a JPEG or OME-Zarr"


def open_source(
    image: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | NDArray[Any],
    *,
    series: int | None = None,
    channel: int | str | None = None,
    z: int | None = None,
    t: int | None = None,
    palette: Literal["index", "expand"] | None = None,
    allow_vrt: bool = False,
    allow_remote: bool = False,
    pixel_size: str | float | None = None,
    align: bool = False,
) -> Source:
    """Open an image by path or uri, or wrap an array of (rows, cols) or (rows, cols, bands).

    Several files of one place are a scene, the bands of one after those of the other: a sequence
    of paths, or one text with commas between them ("B02.tif,B03.tif") or with a pattern
    ("scene/*_B0[234].tif"). align: bring those of other grids to the finest, nearest.

    The options choose from files that hold several images: see `Choice`. Nothing is ever
    taken silently: a file that leaves a choice open is refused, with what there is to choose.
    allow_vrt: read the files that a GDAL VRT names, if they are TIFFs on this machine.
    allow_remote: read a TIFF at an http or https address that holds no secret, by ranges of bytes;
    without it nothing is ever fetched. pixel_size: of an image that states none or a wrong one:
    "0.25um", "30cm", or a number of um.

    Raises InputError (exit 4): E-INPUT-MISSING, -EXTRA, -REMOTE, -ADDRESS, -NAME, -DIRECTORY, -NOT-FILE,
    -EMPTY, -FORMAT, -TRUNCATED, -READ, -DTYPE, -AMBIGUOUS, -PALETTE, -SEGMENT, -SPARSE, -REFERS, -VRT,
    E-SCENE-DTYPE, -GRID, -ALIGN; UsageError E-CHOICE (exit 2) for an option the image has no use
    for, E-OPTION for what is no pixel size, E-SCENE-TWICE.
    """
    from tilseg.sources import array

    stated = None if pixel_size is None else pixel_size_text(pixel_size)
    options = Choice(
        series, channel, z, t, palette, pixel_size=stated, align="nearest" if align else None
    )
    if isinstance(image, np.ndarray):
        options.refuse_all_but("array")
        return array.ArraySource(image, options)
    if isinstance(image, str) and image.startswith(array.SCHEME):
        return array.reopen(image)
    text = os.fspath(image) if isinstance(image, str | os.PathLike) else joined(image)
    name, choice = split_uri(text)
    # What is allowed is never taken from a name: names come from strangers, too.
    vrt: Literal["follow"] | None = "follow" if allow_vrt else None
    remote: Literal["fetch"] | None = "fetch" if allow_remote else None
    return _open(name, replace(options if str(options) else choice, vrt=vrt, remote=remote))


def reopen_source(uri: str) -> Source:
    """The image of a `Source.uri`, with what was allowed when it was first opened.

    Raises as `open_source` does.
    """
    from tilseg.sources import array

    return array.reopen(uri) if uri.startswith(array.SCHEME) else _open(*split_uri(uri))


def _open(name: str, choice: Choice) -> Source:
    names = file_names(name)
    if len(names) == 1:
        return _open_file(names[0], choice)
    from tilseg.sources.scene import SceneSource

    images = [_open_file(each, replace(choice, align=None)) for each in names]
    return SceneSource(names, images, choice)


def _open_file(name: str, choice: Choice) -> Source:
    if is_address(name):
        if choice.remote is None:
            raise InputError("E-INPUT-REMOTE", path=public_address(name))
        from tilseg.sources import remote

        return remote.open_address(name, choice)
    path = Path(name)
    head = first_bytes(path)
    for reader, (module, claims) in _READERS.items():
        if claims(path, head):
            # To allow what a file does not do is no choice of it.
            vrt = choice.vrt if reader == "vrt" else None
            asked = replace(choice, vrt=vrt, remote=None)
            source: Source | None = importlib.import_module(module).open_path(path, asked)
            if source is not None:
                return source
    if path.is_dir():
        raise InputError("E-INPUT-DIRECTORY", path=path)
    raise InputError("E-INPUT-FORMAT", path=path, reason=describe(head), expected=_EXPECTED)


def file_identity(path: Path, ends: int = 2**20) -> dict[str, Any]:
    """Identity of one file: resolved path, size, time of change and a hash of both its ends.

    ends: bytes of each end that are hashed.
    """
    import hashlib

    status = path.stat()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(ends))
        file.seek(max(0, status.st_size - ends))
        digest.update(file.read(ends))
    return {
        "path": str(path.resolve()),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "sha256_ends": digest.hexdigest(),
    }
