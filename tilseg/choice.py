"""Which image of a file that holds several is meant, and how a uri says so."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, fields, replace
from typing import Any, Literal
from urllib.parse import quote, unquote

from tilseg.errors import UsageError
from tilseg.georef import Georef, PixelSize
from tilseg.lengths import convert, parse_length


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


def pixel_size_text(pixel_size: str | float) -> str:
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
