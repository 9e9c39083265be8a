"""What the results of a batch are called: after their images, and the same tomorrow.

slides/a.svs becomes a.tilseg. Where several images have one stem, or a.tilseg is another image's,
it is a-1f3a9c20.tilseg, by a hash of its path; so it is for a stem too long for a disk, of which the
beginning stays. Whichever name an image has got it keeps: a larger batch into the same folder finds
what a smaller one has made.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tilseg.batches.listing import Listed
from tilseg.choice import split_uri
from tilseg.errors import UsageError
from tilseg.source import image_name
from tilseg.workspace import LONGEST_NAME, RECEIPT

_DIGITS = 8
# The plan of a run is written within milliseconds of its folder; disks of many machines take longer.
_BEGIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class BatchImage:
    """One image of a batch and where its result goes. model, pixel_size, roi: of it alone."""

    image: str
    output: Path
    model: str | None = None
    pixel_size: str | None = None
    roi: Path | None = None


def name_results(
    listed: Sequence[Listed], folder: Path, known: Mapping[Path, str]
) -> list[BatchImage]:
    """The images with their results in `folder`, in the same order.

    known: the image behind results that are recorded. Raises UsageError E-BATCH-NAME for two
    images with one result.
    """
    there = set(os.listdir(folder)) if folder.is_dir() else set()
    stems = Counter(image_name(each.image) for each in listed if each.out is None)

    def owner(name: str) -> str | None:
        output = folder / name
        return known.get(output) or _image_behind(output)

    named = [
        BatchImage(
            each.image,
            folder / (each.out or _name(each.image, stems, there, owner)),
            each.model,
            each.pixel_size,
            each.roi,
        )
        for each in listed
    ]
    seen: dict[Path, str] = {}
    for one in named:
        if one.output in seen:
            raise UsageError(
                "E-BATCH-NAME", name=one.output.name, first=seen[one.output], second=one.image
            )
        seen[one.output] = one.image
    return named


def _name(
    image: str, stems: Counter[str], there: set[str], owner: Callable[[str], str | None]
) -> str:
    stem = image_name(image)
    digest = hashlib.sha256(image.encode(errors="surrogateescape")).hexdigest()[:_DIGITS]
    plain, own = f"{stem}.tilseg", f"{_cut(stem)}-{digest}.tilseg"
    if there & {own, f".{own}.partial"}:
        return own
    if there & {plain, f".{plain}.partial"}:
        behind = owner(plain)
        # Of a run that was killed before it said of which image it is, nothing is kept.
        empty = behind is None and plain not in there
        return plain if behind == image or empty else own
    return plain if stems[stem] == 1 and _cut(stem) == stem else own


def _cut(stem: str) -> str:
    """As much of it as there is room for beside a hash."""
    return stem.encode()[: LONGEST_NAME - len("-.tilseg") - _DIGITS].decode(errors="ignore")


def _image_behind(output: Path) -> str | None:
    """The image of a result, finished or not, that no batch has recorded."""
    partial = output.with_name(f".{output.name}.partial")
    end = time.monotonic() + _BEGIN_SECONDS
    while True:
        # Looked at before the files are: what is published meanwhile is found by the next look.
        last = output.exists() or not partial.exists() or time.monotonic() > end
        for file in (partial / "plan.json", output / RECEIPT):
            try:
                uri: str = json.loads(file.read_bytes())["plan"]["source"]
            except (OSError, ValueError, KeyError, TypeError):
                # What is there instead is found out, and told, when the image's turn comes.
                continue
            return split_uri(uri)[0]
        if last:
            return None
        # Another machine has begun it just now.
        time.sleep(0.01)
