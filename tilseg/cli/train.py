"""`tilseg train IMAGES MASKS -o model.safetensors`."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from tilseg.errors import UsageError, printable
from tilseg.models.settings import SETTINGS
from tilseg.training.settings import AUGMENTATIONS, Settings

if TYPE_CHECKING:
    from tilseg.training.loop import Progress as Step
    from tilseg.training.train import TrainReport

_log = logging.getLogger("tilseg")

_DEFAULT = Settings()
_LINE_SECONDS = 10.0


def _class_names(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:  # noqa: ARG001
    names = tuple(part.strip() for part in value.split(","))
    if len(set(names)) < max(2, len(names)) or not all(names) or len(names) > 254:
        allowed = "2 to 254 different names separated by commas"
        raise UsageError("E-OPTION", option="--classes", value=value, allowed=allowed)
    return names


def _colors(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:  # noqa: ARG001
    return tuple(part.strip() for part in value.split(",")) if value else None


def _numbers(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[float, ...]:  # noqa: ARG001
    try:
        return tuple(float(part) for part in value.split(",")) if value else ()
    except ValueError:
        allowed = "numbers separated by commas"
        raise UsageError(
            "E-OPTION", option="--class-weights", value=value, allowed=allowed
        ) from None


@click.command(name="train")
@click.argument("images", type=click.Path(path_type=Path))
@click.argument("masks", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Model file to write, such as model.safetensors.",
)
@click.option(
    "--classes",
    callback=_class_names,
    default="background,foreground",
    show_default=True,
    help="Names of the mask values 0, 1, ...; 255 in a mask means not labelled.",
)
@click.option(
    "--colors",
    callback=_colors,
    metavar="COLOURS",
    help="Colours of the classes: #000000,#0072b2.  [default: chosen]",
)
@click.option(
    "--network",
    type=click.Choice(list(SETTINGS)),
    metavar="NAME",
    default="unet-small",
    show_default=True,
    help="One of those that `tilseg models` lists.",
)
@click.option(
    "--depth", type=click.IntRange(1, 8), help="Poolings, where the network's own are not wanted."
)
@click.option(
    "--width",
    type=click.IntRange(1, 1024),
    help="Channels of the finest level, where the network's own are not wanted.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Begin with these: a model of yours, or VGG-16 or U2-Net weights (.safetensors, .pth).",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=_DEFAULT.steps,
    show_default=True,
    help="Gradient steps at most.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    help="Minutes at most; where it ends then depends on the machine.",
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=_DEFAULT.batch,
    show_default=True,
    help="Patches a step.",
)
@click.option(
    "--patch",
    type=click.IntRange(1),
    default=_DEFAULT.patch,
    show_default=True,
    help="Side of a patch's labels in pixels, at least.",
)
@click.option(
    "--augment",
    type=click.Choice(list(AUGMENTATIONS)),
    default="light",
    show_default=True,
    help="light for one instrument and scale, medium for some, strong for many.",
)
@click.option(
    "--loss",
    default=_DEFAULT.loss,
    show_default=True,
    help="cross-entropy, border, focal, dice, dice-squared or tversky, or a sum of some.",
)
@click.option(
    "--class-weights",
    callback=_numbers,
    metavar="W,W,...",
    help="How much a pixel of each class counts in cross-entropy and focal.",
)
@click.option("--seed", type=click.IntRange(0), default=_DEFAULT.seed, show_default=True)
@click.option(
    "--validation-fraction",
    "fraction",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of the images of each subfolder that is held out.",
)
@click.option(
    "--head",
    type=click.Choice(["softmax", "sigmoid"]),
    default="softmax",
    show_default=True,
    help="sigmoid: one channel, for two classes.",
)
@click.option(
    "--normalization",
    type=click.Choice(["image", "joint", "constants"]),
    default="image",
    show_default=True,
    help="Mean and deviation of each image, band by band or all bands together, or of all images.",
)
@click.option(
    "--orient",
    type=click.Choice(["bright-on-dark"]),
    help="Turn dark-on-light images round, so that stain and fluorescence look alike.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:i.")
@click.option("--description", default="", help="One line about the model, for its card.")
@click.option("--licence", default="", help="Licence of the weights, for the card.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON.")
def command(
    images: Path,
    masks: Path,
    output: Path,
    network: str,
    depth: int | None,
    width: int | None,
    augment: str,
    as_json: bool,
    **choices: Any,
) -> None:
    """Train a network on IMAGES and their class MASKS.

    Two folders, paired by the names in them, or two files. Subfolders are split and scored
    apart. The model that validates best is kept; a training that was interrupted is continued
    by the same command.
    """
    from tilseg.cli.stopping import StopRequest, die_by
    from tilseg.training.train import train

    given = {"depth": depth, "width": width}
    setting = SETTINGS[network]
    own = {name: value for name, value in given.items() if value is not None}
    of_settings = ("steps", "minutes", "batch", "patch", "seed", "loss", "class_weights")
    settings = Settings(
        augmentation=AUGMENTATIONS[augment], **{name: choices.pop(name) for name in of_settings}
    )
    with StopRequest() as stop, _Display() as display:
        report = train(
            images,
            masks,
            output,
            architecture=setting.architecture,
            network=setting.parameters | own,
            settings=settings,
            report=display.update,
            stop=stop,
            **choices,
        )
    _print(report, as_json)
    if stop.signal is not None and not report.finished:
        die_by(stop.signal)


class _Display(logging.Handler):
    """Progress on stderr, a bar on a terminal, plain lines elsewhere; and what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        console = Console(stderr=True)
        columns = (
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %  {task.fields[facts]}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console) if console.is_terminal else None
        self._dice = ""
        self._shown = -_LINE_SECONDS

    def __enter__(self) -> _Display:
        _log.addHandler(self)
        _log.setLevel(logging.INFO)
        if self._bar:
            self._task = self._bar.add_task("training", total=1.0, facts="")
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar.stop()
        _log.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """A line above the bar."""
        print(printable(record.getMessage()), file=sys.stderr, flush=True)

    def update(self, step: Step) -> None:
        if step.scores is not None:
            self._dice = f", validation Dice {step.scores.dice:.4f}"
        facts = f"step {step.step}, loss {step.loss:.3f}, {step.rate:.2f} Mpix/s{self._dice}"
        if self._bar:
            self._bar.update(self._task, completed=step.done, facts=facts)
            return
        now = time.monotonic()
        if step.scores is not None or now - self._shown >= _LINE_SECONDS:
            self._shown = now
            line = f"training: {100 * step.done:.0f} %, {facts}, {step.left:.0f} s left"
            print(line, file=sys.stderr, flush=True)


def _print(report: TrainReport, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report.metrics, indent=1))
    elif report.metrics:
        rows = {"all": report.metrics, **report.metrics.get("groups", {})}
        for name, figures in rows.items():
            click.echo(f"{name}: validation Dice {figures['dice']}, {figures['images']} images")
        click.echo(f"model {report.path}")
    if not report.finished:
        kept = "the best model so far is kept" if report.metrics else "no model was validated yet"
        click.echo(f"stopped at step {report.step}; {kept}, the same command continues", err=True)
