"""Which images a batch has: paths, patterns, and manifests in CSV."""

from __future__ import annotations

import csv
import glob
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tilseg.errors import InputError, UsageError, nearest
from tilseg.names import file_names, is_address, joined, placed

_RESULT = ".tilseg"
COLUMNS = ("path", "model", "pixel_size", "roi", "out")


@dataclass(frozen=True, slots=True)
class Listed:
    """One image, as `open_source` takes it, absolute; and what its line of a manifest says of it.

    out: the name of its result in the folder of results, or an absolute path.
    """

    image: str
    model: str | None = None
    pixel_size: str | None = None
    roi: Path | None = None
    out: str | None = None


def list_images(arguments: Iterable[str]) -> list[Listed]:
    """The images that arguments name, in the order of their paths, each once; those of manifests
    in the order of these.

    An argument is a path, a pattern that is not a file (`**` for any depth; what lies in results is
    left out), a list of files with commas, which is one scene, or a manifest: a CSV file with the columns `COLUMNS`, of which only
    path is needed, and whose paths are relative to its own folder.

    Raises InputError E-INPUT-MISSING for a manifest that is not there and a pattern that nothing
    fits, UsageError E-MANIFEST.
    """
    named: set[str] = set()
    listed: list[Listed] = []
    for argument in arguments:
        if is_manifest(argument):
            listed += _manifest(Path(argument))
        else:
            named.update(_fitting(argument))
    return [*(Listed(image) for image in sorted(named)), *listed]


def is_manifest(argument: str) -> bool:
    """Whether an argument names a manifest and not an image."""
    return argument.lower().endswith(".csv")


def _fitting(argument: str) -> list[str]:
    if os.path.lexists(argument) or is_address(argument) or "," in argument:
        return [_absolute(argument)]
    found = [each for each in glob.glob(argument, recursive=True) if not _in_result(each, argument)]
    if not found and glob.has_magic(argument):
        raise InputError("E-INPUT-MISSING", path=argument)
    return [_absolute(each) for each in found or [argument]]


def _in_result(path: str, pattern: str) -> bool:
    """Whether it is a result, or in one, though the pattern does not ask for such."""
    parts = Path(path).parts
    return _RESULT not in pattern and any(part.endswith(_RESULT) for part in parts)


def _absolute(image: str) -> str:
    """A path from the root on, the same from wherever it is named, or a scene of such, or an
    address."""
    names = file_names(image)
    if len(names) > 1:
        return joined(map(_absolute, names))
    if is_address(image):
        return image
    path = Path(names[0])
    # Of a link the name stays: it is often the only one that says what the image is.
    return str(path.parent.resolve() / path.name)


def _manifest(path: Path) -> Iterator[Listed]:
    try:
        # Spreadsheets begin UTF-8 files with a mark.
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise InputError("E-INPUT-MISSING", path=path) from None
    except (OSError, UnicodeDecodeError) as error:
        _refuse(path, f"can't be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}")
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        heads = [head.strip() for head in next(rows, [])]
        _check_heads(path, heads)
        for row in rows:
            if any(cell.strip() for cell in row):
                yield _listed(path, rows.line_num, heads, row)
    except csv.Error as error:
        _refuse(path, f"line {rows.line_num}: {error}")


def _check_heads(path: Path, heads: list[str]) -> None:
    for head in heads:
        if head not in COLUMNS:
            _refuse(path, f"unknown column {head!r}{nearest(head, COLUMNS)}")
        if heads.count(head) > 1:
            _refuse(path, f"column {head!r} is there twice")
    if "path" not in heads:
        _refuse(path, "there is no column path")


def _listed(path: Path, line: int, heads: list[str], row: list[str]) -> Listed:
    if len(row) != len(heads):
        _refuse(path, f"line {line} has {len(row)} fields, the first line {len(heads)}")
    cells = {head: cell.strip() or None for head, cell in zip(heads, row, strict=True)}
    if cells["path"] is None:
        _refuse(path, f"line {line} has no path")
    folder, model, roi = path.parent, cells.get("model"), cells.get("roi")
    return Listed(
        _absolute(placed(cells["path"], folder)),
        # A bundled name, unless it is the path of a file.
        str(folder / model) if model and (folder / model).is_file() else model,
        cells.get("pixel_size"),
        folder / roi if roi else None,
        cells.get("out"),
    )


def _refuse(path: Path, reason: str) -> NoReturn:
    raise UsageError("E-MANIFEST", path=path, reason=reason, allowed=", ".join(COLUMNS))
