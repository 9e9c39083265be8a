"""The files of a change: the mask in two formats, regions, tables, the page, the receipt."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tilseg.ahead import ahead
from tilseg.card import file_sha256
from tilseg.changes.change import UNCHANGED, Change, mask_values
from tilseg.changes.page import change_page
from tilseg.changes.pair import Pair
from tilseg.changes.pictures import Overview
from tilseg.durable import seal, write_durably
from tilseg.errors import ExistsError, OutputError, printable
from tilseg.ownership import check_apart
from tilseg.polygons.formats import NAMES
from tilseg.receipt import CHANGE, files
from tilseg.regions import BlockGrid
from tilseg.regions.names import CSV, LABELS, PARQUET
from tilseg.sink import load_sink
from tilseg.sinks.legend import style_qml
from tilseg.sinks.readback import check_export
from tilseg.sinks.zarr import MaskStore
from tilseg.source import file_identity
from tilseg.window import Size, Window

ZARR, TIF = "change.zarr", "change.tif"
_PAGE, _TABLE, _STYLE = "change.html", "changes.csv", "change.qml"
_NAMES = {
    ZARR, TIF, f"{TIF}.aux.xml", CHANGE, _PAGE, _TABLE, _STYLE, CSV, PARQUET, LABELS, *NAMES
}  # fmt: skip

Report = Callable[[str, int, int], None]


def check_output(output: Path, inputs: list[Path]) -> None:
    """Raises ExistsError E-CHANGE-EXISTS for anything but an earlier change, OutputError
    E-OUTPUT-PARENT where its folder does not exist and E-OUTPUT-INPUT where it touches an input."""
    if not output.parent.is_dir():
        raise OutputError("E-OUTPUT-PARENT", path=output, parent=output.parent)
    check_apart([output], inputs)
    if os.path.lexists(output):
        names = {path.name for path in output.iterdir()} if output.is_dir() else {""}
        if not names <= _NAMES:
            raise ExistsError("E-CHANGE-EXISTS", path=output)


def write_masks(
    pair: Pair, found: Change, folder: Path, block: Size, report: Report
) -> tuple[dict[str, bytes], int]:
    """change.zarr and change.tif in `folder`, each read back; returns the pictures and their factor.

    Raises OutputError E-OUTPUT-WRITE or E-OUTPUT-READBACK.
    """
    store = MaskStore.create(folder / ZARR, pair.shape, block, dtype=found.dtype)
    table, overview, done = mask_values(pair, found), Overview(pair, found), 0

    def compute(window: Window) -> tuple[Window, Any, Any]:
        before, after = pair.read(window)
        values = np.take(table, before.astype(np.intp) << 8 | after)
        return window, np.stack([before, after]), values

    for window, codes, values in ahead(compute, BlockGrid(pair.shape, block)):
        if store.commit(window, values) != store.block_crc(window):
            reason = f"other pixels at {window}"
            raise OutputError("E-OUTPUT-READBACK", path=store.path, reason=reason)
        overview.add(window, codes, values)
        done += window.size.area
        report("change", done, pair.shape.area)
    store.finish(
        name=UNCHANGED,
        classes=found.mask_classes,
        georef=pair.georef,
        background=0,
        provenance=_provenance(found),
    )
    sink = load_sink("geotiff" if pair.georef.is_map else "ometiff")
    area = pair.shape.area
    sink.write(
        store, folder / TIF, lambda done, total: report("export", area * done // total, area)
    )
    check_export(store, folder / TIF, lambda done, total: report("check", done, total))
    if pair.georef.is_map:
        write_durably(folder / _STYLE, style_qml(found.mask_classes, 0))
    return overview.pictures(), overview.factor


def _provenance(found: Change) -> dict[str, str]:
    names = {"before": Path(found.before).name, "after": Path(found.after).name}
    return {"software": f"tilseg {version('tilseg')}"} | {k: printable(v) for k, v in names.items()}


def write_texts(
    found: Change, pictures: Mapping[str, bytes], factor: int, inputs: list[Path], folder: Path
) -> None:
    """The table, the page and, last of all, the receipt in `folder`; raises E-OUTPUT-WRITE."""
    write_durably(folder / _TABLE, found.to_csv())
    write_durably(folder / _PAGE, change_page(found, pictures, factor))
    content = {
        "format": 1,
        "status": "complete",
        "command": sys.argv,
        "versions": {"tilseg": version("tilseg"), "numpy": np.__version__},
        "python": platform.python_version(),
        "inputs": [_identity(path) for path in inputs],
        "change": found.to_json(),
        "files": {str(path.relative_to(folder)): file_sha256(path) for path in files(folder)},
    }
    write_durably(folder / CHANGE, seal(content))


def _identity(path: Path) -> dict[str, Any]:
    """That of a file, or of what tells a folder from others: its receipt, or its metadata."""
    names = ("run.json", "zarr.json", "mask.tif", ".zattrs", ".zarray")
    inside = [path / name for name in names if (path / name).is_file()]
    file = next(iter([path] if path.is_file() else inside), None)
    return {"path": str(path)} if file is None else file_identity(file)
