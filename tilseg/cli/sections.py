"""The options of commands that have many, under headings, in --help and in the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import click

_SECTIONS = {
    "What to write": (
        "output",
        "outputs",
        "probabilities",
        "overwrite",
        "as_json",
    ),
    "What to read of the image": (
        "series",
        "channel",
        "z",
        "t",
        "bands",
        "palette",
        "align",
        "allow_vrt",
        "allow_remote",
    ),
    "Where, and how fine": ("tissue", "roi", "pixel_size", "resolution", "level"),
    "The network": ("model", "allow_inexact", "device", "precision", "tta", "threads", "tile"),
    "Regions": (
        "no_regions",
        "instances",
        "border_class",
        "connectivity",
        "min_area",
        "only",
        "shape",
        "labels",
        "polygons",
        "simplify",
    ),
    "How it runs": (
        "memory",
        "workers",
        "processes",
        "scheduler",
        "batch_system",
        "shard",
        "on_bad_tile",
        "stop_after",
        "break_lock",
        "config",
        "seconds",
    ),
}
_OTHERS = "Options"

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def together(*options: Decorator) -> Decorator:
    """All `options` as one decorator of a command, which gets them in this order."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def sections(command: click.Command) -> Iterator[tuple[str, list[click.Option]]]:
    """The options of a command by heading; all under one unless it is a `SectionedCommand`."""
    headings = command.headings if isinstance(command, SectionedCommand) else {}
    left = {one.name: one for one in command.params if isinstance(one, click.Option)}
    for title, names in headings.items():
        found = [left.pop(name) for name in names if name in left]
        if found:
            yield title, found
    yield _OTHERS, list(left.values())


class SectionedCommand(click.Command):
    """A command whose help shows its options in sections.

    headings: names of the options under each; those of `run` unless a subclass has its own.
    """

    headings: ClassVar[dict[str, tuple[str, ...]]] = _SECTIONS

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = {
            title: [record for one in found if (record := one.get_help_record(ctx))]
            for title, found in sections(self)
        }
        help_option = self.get_help_option(ctx)
        record = help_option.get_help_record(ctx) if help_option else None
        rows[_OTHERS] += [record] if record else []
        # One column for all of them.
        widths = (len(name) for of_one in rows.values() for name, _ in of_one)
        width = min(max(widths), 28)
        for title, of_one in rows.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in of_one])
