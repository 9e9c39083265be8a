"""`tilseg train IMAGES MASKS -o model.safetensors`, and `tilseg train CONFIG.toml`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from tilseg.cli.terminal import Display, print_facts, print_table
from tilseg.cli.training_file import make_config
from tilseg.cli.training_options import TrainCommand, training_options
from tilseg.errors import OutputError, UsageError

if TYPE_CHECKING:
    from tilseg.training.config import Config
    from tilseg.training.course import TrainReport
    from tilseg.training.loop import Progress as Step

_LINE_SECONDS = 10.0


@click.command(name="train", cls=TrainCommand)
@click.argument("paths", nargs=-1, metavar="[CONFIG.toml] [IMAGES MASKS | TABLE.csv]")
@training_options
@click.option(
    "--preview",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Write patches beside their augmented selves, with their labels, and train nothing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    paths: tuple[str, ...],
    preview: Path | None,
    as_json: bool,
    **options: Any,  # noqa: ARG001  # `make_config` takes them from the context
) -> None:
    """Train a network on images and their class masks.

    IMAGES and MASKS are two folders, paired by the names in them, or two files. Subfolders are
    split and scored apart. CONFIG.toml says the same and more; options go over it. The model that
    validates best is kept; a training that was interrupted is continued by the same command.
    """
    from tilseg.cli.stopping import StopRequest, die_by
    from tilseg.training.train import train

    config = make_config(ctx, paths)
    if preview is not None:
        _write_preview(config, preview)
        return
    with StopRequest() as stop, _Display() as display:
        report = train(config, report=display.update, stop=stop)
    _print(report, as_json)
    if stop.signal is not None and not report.finished:
        die_by(stop.signal)


def _write_preview(config: Config, path: Path) -> None:
    from tilseg.durable import write_durably
    from tilseg.pages.encoding import png
    from tilseg.training.train import preview

    if path.suffix.lower() != ".png":
        raise UsageError("E-OPTION", option="--preview", value=str(path), allowed="a .png file")
    if not path.parent.is_dir():
        raise OutputError("E-OUTPUT-PARENT", path=path, parent=path.parent)
    write_durably(path, png(preview(config)))
    click.echo(f"preview {path}")


class _Display(Display):
    """Progress on stderr, a bar on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %  {task.fields[facts]}"),
            TimeRemainingColumn(),
        )
        self._task = self.bar.add_task("training", total=1.0, facts="")
        self._scores = ""
        self._shown = -_LINE_SECONDS

    def update(self, step: Step) -> None:
        if step.scores is not None:
            figures = step.scores.summary()
            names = {"Dice": "dice", "mean IoU": "mean_iou", "object F1": "object_f1"}
            found = (f"{name} {_cell(figures[key])}" for name, key in names.items())
            self._scores = f", validation {', '.join(found)}"
        facts = f"step {step.step}, loss {step.loss:.3f}, {step.rate:.2f} Mpix/s{self._scores}"
        if not self.bar.disable:
            self.bar.update(self._task, completed=step.done, facts=facts)
            return
        now = time.monotonic()
        if step.scores is not None or now - self._shown >= _LINE_SECONDS:
            self._shown = now
            line = f"training: {100 * step.done:.0f} %, {facts}, {step.left:.0f} s left"
            print(line, file=sys.stderr, flush=True)


_HEADS = {
    "images": "images",
    "dice": "Dice",
    "dice_mean_of_images": "of images",
    "mean_iou": "mean IoU",
    "boundary_f1": "boundary F1",
    "object_f1": "object F1",
}


def _print(report: TrainReport, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report.metrics, indent=1))
    elif report.metrics:
        _print_tables(report)
    if not report.computed:
        click.echo("already complete: nothing to do", err=True)
    if not report.finished:
        kept = "the best model so far is kept" if report.metrics else "no model was validated yet"
        click.echo(f"stopped at step {report.step}; {kept}, the same command continues", err=True)


def _print_tables(report: TrainReport) -> None:
    """What the model scores on the images held out, and where to look next."""
    metrics = report.metrics
    rows = {"all": metrics, **metrics.get("groups", {})}
    cells = [(name, *(_cell(own[key]) for key in _HEADS)) for name, own in rows.items()]
    print_table(("held out", *_HEADS.values()), cells, right=range(1, 7))
    click.echo()
    classes = [
        (name, _cell(own["dice"]), _cell(own["iou"])) for name, own in metrics["classes"].items()
    ]
    print_table(("class", "Dice", "IoU"), classes, right=range(1, 3))
    click.echo()
    print_facts(
        {
            "model": report.path,
            "page": report.records / "training.html",
            "table": report.records / "metrics.csv",
            "next": f"tilseg run IMAGE --model {report.path}",
        }
    )


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"
