"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tilseg.cli.config import load_config
from tilseg.cli.region_options import region_options
from tilseg.cli.sections import together
from tilseg.cli.values import BandList, Channel, Length

# How an image is opened.
image_options = together(
    click.option("--series", type=click.IntRange(0), help="Image of a file with several."),
    click.option("--channel", type=Channel(), help="One channel instead of all: number or name."),
    click.option("--z", type=click.IntRange(0), help="Plane of a stack, or page of a TIFF."),
    click.option("--t", type=click.IntRange(0), help="Time point of a series."),
    click.option(
        "--palette",
        type=click.Choice(["index", "expand"]),
        help="Numbers of a palette image, or its colours.",
    ),
    click.option(
        "--pixel-size",
        type=Length(),
        help="Of an image that states none or a wrong one: 0.25um, 30cm.",
    ),
    click.option(
        "--align",
        is_flag=True,
        help="Bring the files of a scene to their finest grid, nearest.",
    ),
    click.option(
        "--allow-vrt", is_flag=True, help="Read the TIFFs on this machine that a VRT names."
    ),
    click.option("--allow-remote", is_flag=True, help="Read a TIFF at an http or https address."),
)

# What computes, and what it may take.
_computing = together(
    click.option(
        "--model",
        help="Bundled name or model file.  [default: water for an image on a map, else nuclei]",
    ),
    click.option(
        "--tile",
        type=int,
        metavar="N",
        help="Output step in pixels; a multiple of the model's stride.  [default: chosen]",
    ),
    click.option(
        "--memory",
        metavar="SIZE",
        help="Memory budget, such as 4GB.  [default: 80 % of what there is]",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1, 64),
        help="Blocks under way at once, or processes.  [default: chosen]",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1),
        help="CPU threads of one prediction; they decide the last bits.  [default: chosen]",
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:i."),
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16", "int8"]),
        default="fp32",
        show_default=True,
        help="bf16 and int8 are faster and may change labels near ties.",
    ),
    click.option(
        "--tta",
        type=click.Choice(["none", "d4"]),
        default="none",
        show_default=True,
        help="d4 averages over eight flips and turns of every tile, in eight times the time.",
    ),
)

# What is segmented of the image, and what is kept of it.
_segmented = together(
    click.option("--bands", type=BandList(), help="Bands for the model, counted from 1: 3,2,1."),
    click.option(
        "--level", type=int, help="Pyramid level to segment; 0 is the finest.  [default: 0]"
    ),
    click.option(
        "--mpp",
        "--resolution",
        "resolution",
        type=Length(),
        help="Pixel size to segment at: 0.5um, 10m, a number in the image's unit, or native "
        "for the image's own.  [default: the model's, if both are known]",
    ),
    click.option(
        "--probabilities", is_flag=True, help="Keep the probabilities of every class too."
    ),
    click.option(
        "--tissue",
        metavar="auto|none|FILE",
        help="Segment only tissue, as found or as a mask shows it.  [default: as the model asks]",
    ),
    click.option(
        "--roi",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Segment only inside the polygons of a GeoJSON file.",
    ),
    click.option("--no-regions", is_flag=True, help="Do not measure regions."),
    click.option(
        "--allow-inexact",
        is_flag=True,
        help="Take a model whose result depends on the tile, and record by how much.",
    ),
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        callback=load_config,
        is_eager=True,
        expose_value=False,
        help="TOML file with any of these options.",
    ),
)

# All that decides a plan, for `run`, `plan` and `bench`.
plan_options = together(image_options, region_options, _computing, _segmented)


def image_choices(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Of all options those of `image_options`, which `open_source` takes."""
    names = ("series", "channel", "z", "t", "palette", "pixel_size")
    return {name: choices[name] for name in (*names, "align", "allow_vrt", "allow_remote")}


def network_choices(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Of all options those that `load_model` takes."""
    return {name: choices[name] for name in ("device", "precision", "tta", "threads")}
