"""An exported mask, read by its reader, against the mask it was made from."""

from __future__ import annotations

from pathlib import Path

from tilseg.errors import InputError, OutputError
from tilseg.sink import Mask, Progress, windows_of
from tilseg.source import open_source
from tilseg.window import Size

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
    try:
        done = 0
        for window in windows_of(mask.shape, _STEP):
            if not (exported.read(window)[..., 0] == mask.read(window)).all():
                reason = f"other pixels at {window}"
                raise OutputError("E-OUTPUT-READBACK", path=path, reason=reason)
            done += window.size.area
            progress(done, mask.shape.area)
    except InputError as error:
        raise OutputError("E-OUTPUT-READBACK", path=path, reason=error.problem) from error
    finally:
        exported.close()
