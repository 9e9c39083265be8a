"""How an image of one file, or a scene of several, is named: on the command line and in a uri.

A scene is a list with commas between its files, and any of these may be a pattern. A comma that
belongs to a name is written twice in a list.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

# http://host/x.tif, s3://bucket/x.tif, and GDAL's names of the same.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|/vsi[a-z0-9_]+/")
# Of a list: what is between its commas.
_LISTED = re.compile(r"(?:[^,]|,,)+")
_WORD_END = re.compile(r"[\W_]+")


def is_address(name: str) -> bool:
    """Whether it is one of a server, and not a file that only looks like it."""
    return bool(_ADDRESS.match(name)) and not os.path.lexists(name)


def public_address(address: str) -> str:
    """An address without what may be secret: a user's name, a password, and all after the path."""
    return re.split(r"[?#]", re.sub(r"//.*@", "//", address), maxsplit=1)[0]


def is_text(path: Path) -> bool:
    """Whether the bytes of a path are UTF-8, which the libraries that open it want."""
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        return False
    return True


def file_names(image: str) -> tuple[str, ...]:
    """The files that `image` names: one, or those of a list, patterns' in the order of the alphabet.

    A file that is there comes first, whatever its name looks like. A pattern that nothing fits
    stays as it is.
    """
    if os.path.lexists(image) or (is_address(image) and not re.search(r",\w+://", image)):
        return (image,)
    listed = [part.replace(",,", ",") for part in _LISTED.findall(image)]
    return tuple(name for part in listed for name in _fitting(part)) or (image,)


def _fitting(part: str) -> list[str]:
    if os.path.lexists(part) or is_address(part):
        return [part]
    return sorted(glob.glob(part)) or [part]


def joined(names: Iterable[str | os.PathLike[str]]) -> str:
    """The list of `names`, made absolute, that `file_names` takes apart again."""
    return ",".join(_absolute(os.fspath(name)).replace(",", ",,") for name in names)


def placed(image: str, folder: Path) -> str:
    """What to call from here the image that is `image` from `folder` on: a file, a list or a pattern.

    Addresses stay as they are.
    """
    whole = folder / image
    if is_address(image) or os.path.lexists(whole):
        return image if is_address(image) else str(whole)
    place = f"{folder}/".replace(",", ",,")
    return ",".join(part if is_address(part) else place + part for part in _LISTED.findall(image))


def _absolute(name: str) -> str:
    return name if is_address(name) else str(Path(name).absolute())


def common_name(names: Sequence[str]) -> str:
    """What to call the image of these files: whole words that begin them all, or their folder.

    Files of one name, or one file, give that without its suffix.
    """
    stems = [Path(name).stem for name in names]
    if len(set(stems)) == 1:
        return stems[0]
    # Letter by letter, which is what it does.
    letters = os.path.commonprefix(stems)  # noqa: RUF071
    shared = re.match(r"(.*[^\W_])[\W_]", letters)
    return shared[1] if shared else Path(names[0]).absolute().parent.name or stems[0]


def distinct_words(names: Sequence[str]) -> tuple[str, ...]:
    """Of each of several names what it doesn't share with all others: "B02" of T33_B02_10m.tif.

    Whole words, from the first that differs to the last; the last word where nothing is left.
    """
    words = [_WORD_END.split(str(Path(name).with_suffix("")).strip("_")) for name in names]
    head = _shared(words)
    tail = _shared([each[head:][::-1] for each in words])
    return tuple("_".join(each[head : len(each) - tail]) or each[-1] for each in words)


def _shared(words: list[list[str]]) -> int:
    """How many words they all begin with."""
    columns = zip(*words, strict=False)
    return next(
        (k for k, column in enumerate(columns) if len(set(column)) > 1), min(map(len, words))
    )
