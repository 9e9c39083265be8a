"""An exported mask, read by its reader, against the mask it was made from."""

from __future__ import annotations

from pathlib import Path

from tilseg.errors import InputError, OutputError
from tilseg.side_by_side import side_by_side
from tilseg.sink import Mask, Progress, windows_of
from tilseg.source import open_source
from tilseg.window import Size, Window

# Read-back goes by windows of this size, whatever the block is.
_STEP = Size(2048, 2048)


def check_export(mask: Mask, path: Path, progress: Progress = lambda *_: None) -> None:
    """Compare every pixel of the file at `path` with `mask`.

    progress: called with (pixels done, pixels in all). Raises OutputError E-OUTPUT-READBACK.
    """
    try:
        exported = open_source(path, palette="index")
    except InputError as error:
        raise OutputError("E-OUTPUT-READBACK", path=path, reason=error.problem) from error

    def check(window: Window) -> int:
        if not (exported.read(window)[..., 0] == mask.read(window)).all():
            reason = f"other pixels at {window}"
            raise OutputError("E-OUTPUT-READBACK", path=path, reason=reason)
        return window.size.area

    try:
        done = 0
        for area in side_by_side(check, windows_of(mask.shape, _STEP), 3 * _STEP.area):
            done += area
            progress(done, mask.shape.area)
    except InputError as error:
        raise OutputError("E-OUTPUT-READBACK", path=path, reason=error.problem) from error
    finally:
        exported.close()
