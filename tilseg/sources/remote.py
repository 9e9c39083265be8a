"""TIFFs at an address, where reading them is allowed: through tifffile, without GDAL.

The guards are those of files on this machine, on the very bytes that are read afterwards. What only
GDAL reads right, internal masks and rare compressions, is refused.
"""

from __future__ import annotations

from dataclasses import replace

from tilseg.choice import Choice
from tilseg.errors import InputError
from tilseg.magic import describe
from tilseg.sources import tiff_header as tags
from tilseg.sources.address import Address
from tilseg.sources.tiff import TiffSource, not_for_tifffile
from tilseg.sources.tiff_checks import check_directory
from tilseg.sources.tiff_header import is_tiff, read_directories

_HEAD = 512


def open_address(url: str, choice: Choice) -> TiffSource:
    """The TIFF at an http or https address.

    Raises InputError: E-INPUT-ADDRESS, E-INPUT-FORMAT for what is no TIFF, and as for a TIFF on
    this machine; UsageError for a choice that the file does not offer.
    """
    address = Address(url)
    head = address.read(0, _HEAD)
    if not is_tiff(head):
        reason = describe(head)
        raise InputError(
            "E-INPUT-FORMAT", path=url, reason=reason, expected="the address of a TIFF"
        )
    directories = read_directories(address)
    first = directories[0]
    check_directory(first)
    only_here = not_for_tifffile(first)
    if any(one.is_mask for one in directories):
        only_here = "an image with a mask"
    if first.tags.keys() & tags.GEO_TAGS and first.number(tags.ORIENTATION, 1) != 1:
        raise first.refuse("is turned by an orientation tag, which a map must not have")
    if only_here:
        raise first.refuse(f"is {only_here}, which is read only from a file on this machine")
    return TiffSource(address, replace(choice, vrt=None), first)
