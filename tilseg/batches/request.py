"""What is asked for an image, so that a result which answers it is known without a plan.

The same request, of the same input, gives the same result: a plan that tilseg would choose anew is
taken from the first start in any case. So a batch of finished images needs neither their networks
nor their pixels. Where anything differs, the plan is made and decides.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tilseg.batches.naming import BatchImage
from tilseg.batches.record import Record, hashed
from tilseg.card import file_sha256
from tilseg.errors import ModelError, TilsegError
from tilseg.fingerprint import PIXEL_SCHEMA
from tilseg.model import bundled_models, find_model
from tilseg.source import Source
from tilseg.workspace import Workspace

# They never change a pixel.
_NOT_ASKED = {"memory", "workers", "allow_vrt", "allow_remote"}
_sha256 = cache(file_sha256)


def request(choices: Mapping[str, Any], outputs: tuple[str, ...]) -> str:
    """A digest of the options of `tilseg run` for one image; "" where a file they name is not there.

    choices: by the names that the command has for them.
    """
    asked = {name: value for name, value in choices.items() if name not in _NOT_ASKED}
    # Which of the GPUs is asked for is of no weight, and forgotten once it is taken.
    asked["device"] = str(asked.get("device")).partition(":")[0]
    model = asked.pop("model", None)
    try:
        files = [find_model(model)] if model else list(bundled_models().values())
        asked["model"] = sorted(_sha256(path) for path in files)
        for name in ("roi", "tissue"):
            value = asked.get(name)
            if value not in (None, "auto", "none"):
                asked[name] = _sha256(Path(value))
    except (OSError, ModelError):
        return ""
    return hashed({**asked, "outputs": outputs, "schema": PIXEL_SCHEMA})


def is_answered(
    record: Record | None,
    image: BatchImage,
    asked: str,
    open_image: Callable[[], Source],
    *,
    keep_bad: bool,
) -> bool:
    """Whether the result of `image` is there, whole, and what `asked` wants.

    keep_bad: whether one with tiles left out will do. Whatever stands in the way of an answer is
    left for the run itself to find, and to tell.
    """
    if record is None or record.status == "failed" or not asked or record.request != asked:
        return False
    if record.status == "degraded" and not keep_bad:
        return False
    space = Workspace(image.output)
    try:
        written = space.receipt_file.read_bytes()
        # As it was when the batch ended: then it need not be checked against itself, which for a
        # result of thousands of files takes longer than all else here.
        if hashlib.sha256(written).hexdigest() != record.receipt:
            return False
        receipt = json.loads(written)
        if space.missing(receipt):
            return False
        source = open_image()
        try:
            return bool(source.identity() == receipt["fingerprint"]["input"])
        finally:
            source.close()
    except (TilsegError, OSError):
        return False
