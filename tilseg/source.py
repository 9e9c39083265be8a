"""What an image is to tilseg, and the registry of what can be opened.

A new format is one file in `tilseg/sources/`, one line in `_READERS` and one contract test
class. Importing this module loads no image library.
"""

from __future__ import annotations

import importlib
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from tilseg.errors import InputError, UsageError
from tilseg.georef import Georef, PixelSize
from tilseg.lengths import convert, parse_length
from tilseg.magic import describe
from tilseg.names import common_name, file_names, is_address, joined
from tilseg.window import Size, Window


@dataclass(frozen=True, slots=True)
class Level:
    """One pyramid level: its size and how many level-0 pixels one of its pixels spans."""

    size: Size
    row_factor: float
    col_factor: float


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


@dataclass(frozen=True, slots=True)
class Choice:
    """Which image of a file that holds several; all counts begin at 0.

    series: which image. channel, z, t: which plane of a stack along that axis; all channels
        are bands unless one is chosen, by number or by the name that the file gives it, in
        capitals or not. z also counts the pages of a plain multi-page TIFF.
    palette: "index" reads the class numbers of a palette image, "expand" its colours.
    vrt: "follow" reads the files that a GDAL VRT names; without it a VRT is refused.
    remote: "fetch" reads an address; without it one is refused.
    pixel_size: of an image that states none or a wrong one, as "0.25um" or "0.3m".
    align: "nearest" brings the files of a scene to one grid; without it other grids are refused.
    """

    series: int | None = None
    channel: int | str | None = None
    z: int | None = None
    t: int | None = None
    palette: Literal["index", "expand"] | None = None
    vrt: Literal["follow"] | None = None
    remote: Literal["fetch"] | None = None
    pixel_size: str | None = None
    align: Literal["nearest"] | None = None

    def __str__(self) -> str:
        """What was chosen, as `make_uri` writes it: "series=1&z=4", or ""."""
        pairs = self._chosen()
        return "&".join(f"{name}={quote(str(value), safe='+')}" for name, value in pairs)

    def _chosen(self) -> list[tuple[str, Any]]:
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return [(name, value) for name, value in pairs if value is not None]

    def refuse_all_but(self, path: object, *allowed: str) -> None:
        """Raise UsageError E-CHOICE if anything is chosen that the image does not offer.

        The numbers as they are (palette "index") can be had of every image, leave to fetch it
        (remote) chooses nothing of it, and whether its pixel size can be stated `place` says.
        """
        for name, value in self._chosen():
            if name not in (*allowed, "remote", "pixel_size") and value != "index":
                raise UsageError("E-CHOICE", path=path, option=name, value=value)

    def place(self, path: object, georef: Georef) -> Georef:
        """Where the image lies, with the pixel size stated; UsageError E-CHOICE on a map."""
        if self.pixel_size is None:
            return georef
        size = _stated(self.pixel_size)
        if size is None or (georef.is_map and georef.pixel_size):
            raise UsageError("E-CHOICE", path=path, option="pixel-size", value=self.pixel_size)
        return replace(georef, pixel_size=size)


def _stated(text: str) -> PixelSize | None:
    """A pixel size in um, or in m; None for what is none."""
    value, unit = parse_length(text) or (0.0, None)
    unit = unit or "um"
    into = "um" if unit in ("nm", "um", "mm") else "m"
    side = convert(value, unit, into)
    return PixelSize(side, side, into) if side else None


def _written(pixel_size: str | float) -> str:
    """A pixel size as a `Choice` has it; raises UsageError E-OPTION for what is none."""
    size = _stated(str(pixel_size))
    if size is None:
        allowed = "a length such as 0.25um, 250nm or 30cm; or a number of um"
        raise UsageError("E-OPTION", option="--pixel-size", value=pixel_size, allowed=allowed)
    return f"{size.rows!r}{size.unit}"


_COUNTS = ("series", "channel", "z", "t")
_WORDS = {
    "palette": ("index", "expand"),
    "vrt": ("follow",),
    "remote": ("fetch",),
    "align": ("nearest",),
}
_CHOSEN = re.compile(
    r"(?P<path>.+)#(?P<choice>[a-z_]+=[\w.~%+-]+(&[a-z_]+=[\w.~%+-]+)*)", re.DOTALL
)


def make_uri(path: Any, choice: Choice) -> str:
    """`path` (a Path or an address), absolute, and after a "#" what was chosen of it."""
    return f"{path.absolute()}#{choice}" if str(choice) else str(path.absolute())


def split_uri(image: str) -> tuple[str, Choice]:
    """Undo `make_uri`. A file whose name only looks like one with a choice comes first."""
    found = _CHOSEN.fullmatch(image)
    if found is None or os.path.lexists(image):
        return image, Choice()
    named: dict[str, Any] = dict(pair.split("=") for pair in found["choice"].split("&"))
    for name, quoted in named.items():
        named[name] = value = unquote(quoted)
        # No file has so many images that their number takes ten digits.
        if name in _COUNTS and value.isdecimal() and len(value) < 10:
            named[name] = int(value)
        elif name == "channel":
            continue
        elif value not in _WORDS.get(name, ()) and not (name == "pixel_size" and _stated(value)):
            return image, Choice()
    return found["path"], Choice(**named)


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

    stated = None if pixel_size is None else _written(pixel_size)
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
    head = _first_bytes(path)
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


def public_address(address: str) -> str:
    """An address without what may be secret: a user's name, a password, and all after the path."""
    return re.split(r"[?#]", re.sub(r"//.*@", "//", address), maxsplit=1)[0]


def _first_bytes(path: Path, count: int = 512) -> bytes:
    if not is_text(path):
        raise InputError("E-INPUT-NAME", path=path)
    # stat before open: opening a FIFO would wait for ever.
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        raise InputError("E-INPUT-MISSING", path=path) from None
    if stat.S_ISDIR(mode):
        return b""
    if not stat.S_ISREG(mode):
        raise InputError("E-INPUT-NOT-FILE", path=path)
    try:
        with path.open("rb") as file:
            head = file.read(count)
    except OSError as error:
        raise InputError("E-INPUT-READ", path=path, reason=error.strerror) from None
    if not head:
        raise InputError("E-INPUT-EMPTY", path=path)
    return head


def is_text(path: Path) -> bool:
    """Whether the bytes of a path are UTF-8, which the libraries that open it want."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        return False
    return True


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
