"""A score as files: evaluation.json, a page that needs nothing else, and its pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tilseg.durable import replacing
from tilseg.errors import ExistsError, OutputError
from tilseg.metrics import pictures
from tilseg.metrics.difference import DifferenceCounter
from tilseg.metrics.score import Score
from tilseg.metrics.summary import (
    OBJECT_HEADS,
    PIXEL_HEADS,
    label,
    object_cells,
    overall,
    pixel_cells,
)
from tilseg.pages.page import inline, png_width, render

_JSON = "evaluation.json"
_MAP = "differences.png"


def check_output(output: Path) -> None:
    """Raises ExistsError E-EVALUATION-EXISTS unless an evaluation can be written there, and
    OutputError E-OUTPUT-PARENT where its folder does not exist."""
    if not output.absolute().parent.is_dir():
        raise OutputError("E-OUTPUT-PARENT", path=output, parent=output.absolute().parent)
    if output.exists() and not (output / _JSON).is_file():
        raise ExistsError("E-EVALUATION-EXISTS", path=output)


def write_evaluation(score: Score, differences: DifferenceCounter, output: Path) -> None:
    """Write the directory `output`; it appears when it is complete, in place of an older one.

    Raises OutputError E-EVALUATION-WRITE.
    """
    files = {
        "confusion.png": pictures.confusion_picture(score),
        "classes.png": pictures.bars_picture(score),
        _MAP: pictures.difference_picture(differences),
    }
    page = _page(score, differences.factor, files)
    files[_JSON] = (json.dumps(score.to_json(), indent=1) + "\n").encode()
    files["evaluation.html"] = page.encode()
    try:
        with replacing(output) as ready:
            for name, content in files.items():
                (ready / name).write_bytes(content)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError("E-EVALUATION-WRITE", path=output, reason=reason) from error


def _page(score: Score, factor: int, files: dict[str, bytes]) -> str:
    counted = [(each, label(each), each.objects) for each in score.classes]
    facts: dict[str, Any] = {
        "score": score,
        "overall": overall(score),
        "pixel_heads": PIXEL_HEADS,
        "classes": [(each, name, pixel_cells(each)) for each, name, _ in counted],
        "object_heads": OBJECT_HEADS,
        "objects": [
            (each, name, object_cells(objects)) for each, name, objects in counted if objects
        ],
        "named": len(score.classes) <= pictures.MOST_NAMED,
        "factor": factor,
        "pictures": {name: inline(png) for name, png in files.items()},
        # Figures are drawn larger than they are shown, to be sharp on fine screens.
        "widths": {
            name: round(png_width(png) / (1 if name == _MAP else 1.5))
            for name, png in files.items()
        },
    }
    return render(Path(__file__).with_name("evaluation.html.j2"), **facts)
