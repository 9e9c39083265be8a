"""What commands say at their end: the figures, and where to look next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tilseg.cli.terminal import print_facts, print_line, print_table
from tilseg.report.words import skipped_text

if TYPE_CHECKING:
    from tilseg.verbs.run import RunReport

# What a person may want to open, the first thing first.
_FILES = {
    "report.html": "report",
    "evaluation.html": "page",
    "change.html": "page",
    "mask.tif": "mask",
    "mask.zarr": "mask",
    "change.tif": "changes",
    "change.zarr": "changes",
    "changes.csv": "table",
    "regions.csv": "table",
    "labels.zarr": "labels",
    "regions.geojson": "polygons",
    "regions.gpkg": "polygons",
    "regions.fgb": "polygons",
}


def show_report(report: RunReport, output: Path) -> None:
    """What a run has to say at its end."""
    if report.status != "unfinished":
        _print_summary(report)
        print_written(output)
        return
    blocks = report.summary["blocks"]
    print_facts(
        {
            "this shard": f"{report.done:,} blocks computed, {report.kept:,} kept from before",
            "all shards": f"{blocks['done']:,} of {blocks['total']:,} blocks done",
            "result": f"{output}, when all are",
        }
    )


def _print_summary(report: RunReport) -> None:
    """What a person wants to know after a run."""
    summary = report.summary
    unit = summary["area_unit"]
    has_regions = any(info["regions"] is not None for info in summary["classes"])
    rows = [
        (
            str(info["value"]),
            info["name"],
            f"{info['pixels']:,}",
            "-" if info["fraction"] is None else f"{100 * info['fraction']:.2f} %",
            "-" if info["area"] is None else f"{info['area']:,.1f} {unit}²",
            *(["-" if info["regions"] is None else f"{info['regions']:,}"] * has_regions),
        )
        for info in summary["classes"]
    ]
    if summary["nodata_pixels"]:
        nodata = ("255", "nodata", f"{summary['nodata_pixels']:,}", "", "")
        rows.append((*nodata, *([""] * has_regions)))
    heads = ("value", "class", "pixels", "of valid", "area", *(["regions"] * has_regions))
    print_table(heads, rows, right=(2, 3, 4, 5))
    print_line("")
    print_line(_effort(report))
    blocks = summary["blocks"]
    if blocks["skipped"]:
        print_line(f"{skipped_text(blocks['skipped'])} of {blocks['total']:,} blocks")


def _effort(report: RunReport) -> str:
    if not report.computed:
        return "already complete: nothing to do"
    summary, kept = report.summary, report.summary["blocks"]["kept"]
    seconds = summary["seconds"]["total"]
    done = f"{summary['blocks']['done']:,} blocks computed"
    if kept:
        return f"{done}, {kept:,} kept from before in {seconds:.1f} s"
    rate = summary["width"] * summary["height"] / 1e6 / max(seconds, 1e-9)
    return f"{done} in {seconds:.1f} s ({rate:.2f} Mpix/s)"


def print_written(output: Path) -> None:
    """The files of a result and what each is, aligned. What is one file is a mask."""
    found = [(what, output / name) for name, what in _FILES.items() if (output / name).exists()]
    lines = found or [("mask", output)]
    width = max(len(what) for what, _ in lines)
    for what, path in lines:
        print_line(str(path), f"{what:{width}} ")
