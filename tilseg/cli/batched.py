"""`tilseg run` of several images into a folder of results."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tilseg.batches.listing import is_manifest, list_images
from tilseg.batches.naming import BatchImage, name_results
from tilseg.batches.overview import PAGE, write_overview
from tilseg.batches.record import Records
from tilseg.batches.request import is_answered, request
from tilseg.batches.table import ELSEWHERE, TABLE, Line, lines
from tilseg.cli.options import image_choices, network_choices
from tilseg.cli.stopping import StopRequest, stopping
from tilseg.errors import BatchFailed, ExistsError, OutputError, Stopped, UsageError, printable
from tilseg.model import find_model
from tilseg.source import Source, open_source
from tilseg.workspace import RECEIPT, SINGLE

if TYPE_CHECKING:
    from tilseg.cli.asked import Asked
    from tilseg.plan import Plan

DEGRADED = 3
# Of the memory budget, for the image that is read ahead and the one that is published.
_BESIDE_BYTES = 200 * 2**20
# Longer tables are for the file.
_MOST_SHOWN = 20
_RESULTS = {".tilseg", *SINGLE}


def is_batch(images: Sequence[str], output: str | None) -> bool:
    """Whether a call has a folder of results: for several images, for a manifest, or where -o is one
    already or ends in a slash and is not a result's name, such as x.tilseg/."""
    if len(images) > 1 or is_manifest(images[0]):
        return True
    if output is None or _is_result(output):
        return False
    return output.endswith("/") or Records(Path(output)).folder.is_dir()


def _is_result(output: str) -> bool:
    return Path(output).suffix.lower() in _RESULTS


def results_folder(output: str | None) -> Path:
    """The folder of results that -o names, made if it is not there.

    Raises UsageError E-OPTION, OutputError E-OUTPUT-PARENT, ExistsError E-EXISTS-FOREIGN.
    """
    if output is None:
        raise click.UsageError("several images need a folder for their results; add -o results/")
    folder = Path(output).absolute()
    if _is_result(output) or (folder / RECEIPT).exists() or folder.is_file():
        allowed = "a folder for the results of several images, such as results/"
        raise UsageError("E-OPTION", option="--output", value=output, allowed=allowed)
    if not folder.parent.is_dir():
        raise OutputError("E-OUTPUT-PARENT", path=folder, parent=folder.parent)
    records = Records(folder)
    if (folder / TABLE).exists() and not records.folder.is_dir():
        raise ExistsError("E-EXISTS-FOREIGN", path=folder / TABLE)
    records.begin()
    return folder


def run_batch(images: Sequence[str], output: str | None, asked: Asked) -> None:
    """Segment the images whose results are not there yet, tell of all, and raise BatchFailed where
    some have failed."""
    if asked.choices["model"] is not None:
        find_model(asked.choices["model"])
    listed = list_images(images)
    folder = results_folder(output)
    records = Records(folder)
    known = {records.output(record): record.image for record in records}
    named = name_results(listed, folder, known)
    part = asked.shard.part(len(named)) if asked.shard else range(len(named))
    mine = [named[index] for index in part]
    held: dict[Path, str] = {}
    with stopping(asked.stop_after) as stop:
        try:
            todo = _left(mine, records, asked, stop)
            if todo:
                _segment(todo, len(mine), records, asked, stop, held)
        finally:
            write_overview(records, lambda: lines(named, records, held))
    ended = list(islice(lines(mine, records, held), len(mine)))
    _tell(folder, ended, as_json=asked.as_json)


def _left(
    images: Sequence[BatchImage], records: Records, asked: Asked, stop: StopRequest
) -> list[BatchImage]:
    """Those whose results are not there yet."""
    left = []
    for done, image in enumerate(images):
        if stop():
            raise Stopped("E-BATCH-STOPPED", done=done, total=len(images))
        if not _is_done(image, records, asked):
            left.append(image)
    return left


def _is_done(image: BatchImage, records: Records, asked: Asked) -> bool:
    def opened() -> Source:
        return open_source(image.image, **image_choices(_choices(image, asked)))

    wanted, keep_bad = _request(image, asked), asked.on_bad_tile == "mask"
    return is_answered(records.of(image.output), image, wanted, opened, keep_bad=keep_bad)


def _request(image: BatchImage, asked: Asked) -> str:
    return request(_choices(image, asked), asked.outputs)


def _choices(image: BatchImage, asked: Asked) -> dict[str, Any]:
    """The choices of one image's plan."""
    own = {"model": image.model, "pixel_size": image.pixel_size, "roi": image.roi}
    return asked.choices | {name: value for name, value in own.items() if value is not None}


def _segment(
    todo: Sequence[BatchImage],
    total: int,
    records: Records,
    asked: Asked,
    stop: StopRequest,
    held: dict[Path, str],
) -> None:
    # Loaded here alone: where there is nothing to do, torch is not.
    from tilseg.budget import available_memory, parse_memory
    from tilseg.cli.batch_display import BatchDisplay
    from tilseg.cli.failing import as_ours
    from tilseg.cli.planned import device_kind, planned
    from tilseg.model import load_model
    from tilseg.models.devices import resolve_device
    from tilseg.schedule import Workers
    from tilseg.verbs.batch import Batch, Order
    from tilseg.verbs.terms import RunOptions

    choices, at = asked.choices, asked.computing
    choices["device"] = device_kind(choices["device"])
    memory = parse_memory(choices["memory"]) if choices["memory"] else available_memory()
    load = lru_cache(maxsize=2)(load_model)
    if choices["model"] is not None:
        # What is wrong with it is wrong for all.
        load(choices["model"], **network_choices(choices))

    def plan(image: BatchImage) -> Plan:
        own = _choices(image, asked) | {"memory": max(1, memory - _BESIDE_BYTES)}
        own |= {"workers": at.workers, "processes": at.sharing}
        with planned(image.image, load=load, **own) as (_, _, made):
            return made

    cluster = at.cluster(resolve_device(choices["device"]).partition(":")[0])
    options = RunOptions(asked.outputs, cluster, asked.overwrite, asked.on_bad_tile)
    order = Order(plan, partial(_request, asked=asked), as_ours, options, asked.break_lock)
    with (
        BatchDisplay(todo, total) as display,
        tempfile.TemporaryDirectory(prefix="tilseg-") as scratch,
        Workers(cluster, scratch) as workers,
    ):
        batch = Batch(records, order, workers, display, stop)
        try:
            batch.carry_out(todo)
        finally:
            held.update(batch.held)


def _tell(folder: Path, ended: list[Line], *, as_json: bool) -> None:
    """What became of the images, on stdout; those that failed, one a line, on stderr."""
    counts = Counter(line.status for line in ended)
    if as_json:
        click.echo(json.dumps(_as_json(folder, ended, counts), indent=1))
    else:
        _show(folder, ended, counts)
    for line in ended:
        if line.status == ELSEWHERE:
            words = printable(f"{line.image}: another run owns it ({line.message})")
            print(words, file=sys.stderr)
        elif line.record is not None and line.status == "failed":
            print(f"failed [{line.record.error}] {line.message}", file=sys.stderr)
    if counts["failed"]:
        table = folder / TABLE
        raise BatchFailed("E-BATCH-FAILED", failed=counts["failed"], total=len(ended), table=table)
    if counts["degraded"]:
        raise click.exceptions.Exit(DEGRADED)


def _show(folder: Path, ended: list[Line], counts: Counter[str]) -> None:
    from tilseg.cli.terminal import print_facts, print_table

    if len(ended) <= _MOST_SHOWN:
        rows = [
            (
                Path(line.image).name,
                line.status,
                f"{line.record.seconds:.1f}" if line.record and line.classes else "",
                os.path.relpath(line.output, folder),
            )
            for line in ended
        ]
        print_table(("image", "status", "seconds", "result"), rows, right=(2,))
        click.echo()
    print_facts(
        {
            "images": ", ".join(f"{count:,} {status}" for status, count in counts.items()),
            "table": os.path.relpath(folder / TABLE),
            "page": os.path.relpath(folder / PAGE),
        }
    )


def _as_json(folder: Path, ended: list[Line], counts: Counter[str]) -> dict[str, Any]:
    return {
        "images": [
            {
                "image": line.image,
                "result": str(line.output),
                "status": line.status,
                "error": line.record.error if line.record else "",
                "message": line.message,
                "seconds": line.record.seconds if line.record else None,
            }
            for line in ended
        ],
        "counts": dict(counts),
        "table": str(folder / TABLE),
        "page": str(folder / PAGE),
    }
