"""Write the reference pages that are made from the code: `python docs/generate.py`.

cli.md comes from the click commands; errors.md from the error tree and its catalogue; networks.md
from the named settings, each built and looked at. `tests/test_docs.py` fails while a page differs
from what the code says.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import click
import torch

from tilseg import errors
from tilseg.cli.main import cli
from tilseg.cli.sections import sections
from tilseg.models.network import make_network
from tilseg.models.settings import SETTINGS, Setting

REFERENCE = Path(__file__).parent / "reference"
_NOTE = "<!-- Made from the code by docs/generate.py; change the code, then run it. -->\n"

_ERRORS_INTRO = """\
# Errors and exit codes

An error is one line on stderr: `error[ID]: words`. The words say what came, what is allowed and
what to do. The exit code says of what kind it is, for scripts.

In Python the same errors are exceptions with the same words. They live in `tilseg.errors`; all are
`tilseg.TilsegError`, and each is also the builtin exception named here.

## Exit codes

| code | meaning | exception |
|---|---|---|
| 0 | the result is complete and verified, or it was there already | |
"""
_DEGRADED = (
    "| 3 | the result is complete but degraded: `--on-bad-tile mask` left tiles as nodata, and "
    "`run.json` names them | |"
)
# What errors.py says of the root of its tree, which no reader meets beside its branches.
_UNLESS = ", unless a subclass says otherwise"
_SIGNALS = """\
| 128 + n | signal n asked to stop: 130 Ctrl-C, 143 SIGTERM, 138 SIGUSR1 (on Linux) | |

After 75 and after a signal, finished blocks are kept and the same command continues. 137 (SIGKILL)
is never ours: the system ended the process, often for want of memory. The same command continues
then too.

## Errors

Words in braces are filled in with the facts of the case.
"""

_NETWORKS_INTRO = """\
# Networks

`tilseg train --network NAME` trains one of these; [Train your own model](../guides/train.md) says
how. `--depth` and `--width` change those that have such a parameter.

Weights are in millions, for three bands and two classes. The halo is the context that a pixel needs
on each side, and the stride is the lattice that tiles sit on, both in pixels. *Exact* means that
tiled and whole images give the same scores; where it is not, the table says what depends on the
tile. `run` then asks for `--allow-inexact`, measures the difference on the image, and records it.

| name | network | weights | halo | stride | exact under tiling? |
|---|---|---|---|---|---|
"""
_NETWORKS_NOTES = """\
## What to know

- **Halo.** It is worked out from the layers, and tests measure it. Compute goes up with it. At a halo of 448, a tile of 512 pixels computes 1,408 x 1,408 to keep
  512 x 512: use large tiles, or a network with a small halo.
- **A halo to make do with.** Networks beyond the U-Net family take a parameter `halo`. Less than
  what the network reaches is not exact, although what lies far away matters little (Luo et al. 2016,
  [arXiv:1701.04128](https://arxiv.org/abs/1701.04128)). It is set in the file
  of a training: `parameters = { halo = 128 }` in its section `[network]`.
- **Padding.** U-Net, UNet++, FCN-8s and SegNet take no padding, but for the settings that say so. The
  others are zero-padded, and their halo keeps that away from every pixel that is kept.
- **Up-sampling** is bilinear with `align_corners=False`. With `True`, which several of the original
  networks use, the result depends on the size of the tile.
- **Supervision.** UNet++ (four outputs), U2-Net (seven) and PSPNet (two, the second at 0.4) are
  trained on all of their outputs.

## What is not covered

- **V-Net** and other networks for volumes: tilseg is for images in two dimensions, and segments a
  volume slice by slice at most.
- **FastFCN** ([arXiv:1903.11816](https://arxiv.org/abs/1903.11816)): its joint pyramid up-sampling
  makes dilated networks cheaper, but its heads pool over the whole image, as PSPNet does.
- Xception as the encoder of DeepLabV3+, and HRNet above W18-Small.
"""


def pages() -> dict[Path, str]:
    """Every generated page and what it should hold."""
    return {
        REFERENCE / "cli.md": cli_page(),
        REFERENCE / "errors.md": errors_page(),
        REFERENCE / "networks.md": networks_page(),
    }


def cli_page() -> str:
    """The reference of all commands and options."""
    context = click.Context(cli, info_name="tilseg")
    parts = [
        _NOTE,
        "# Command line\n",
        "Results go to stdout, progress and errors to stderr. [Errors and exit codes](errors.md) "
        "lists what a command can end with.\n",
    ]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        parts += _command(command, click.Context(command, info_name=name, parent=context))
    return "\n".join(parts).rstrip() + "\n"


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"## tilseg {context.info_name}\n"
    yield f"```text\n{usage}\n```\n"
    yield f"{inspect.cleandoc(command.help or '')}\n"
    for title, parameters in sections(command):
        rows = [_row(one, context) for one in parameters]
        yield "\n".join([f"| {title.lower()} | |\n|---|---|", *rows, ""])


def _row(option: click.Option, context: click.Context) -> str:
    names, meaning = option.get_help_record(context) or ("", "")
    return f"| `{_cell(names)}` | {_cell(meaning)} |"


def _cell(text: str) -> str:
    """Text for a cell of a table; a range such as 0<x<1 must not become a tag."""
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;").strip()


def errors_page() -> str:
    """The reference of exit codes and errors."""
    parts = [_NOTE, _ERRORS_INTRO.rstrip()]
    tree = error_tree()
    for name, (code, builtin, words) in tree.items():
        if code > 3 and _DEGRADED not in parts:
            parts.append(_DEGRADED)
        also = f", {builtin}" if builtin else ""
        parts.append(f"| {code} | {words} | `{name}`{also} |")
    parts.append(_SIGNALS)
    for name, (code, _, meaning) in tree.items():
        rows = [
            f"| `{id}` | {_words(entry.says)} | {_words(entry.do)} |"
            for id, entry in errors.CATALOGUE.items()
            if entry.kind.__name__ == name
        ]
        parts.append(
            f"### Exit {code}: {meaning}\n\n| id | what is wrong | what to do |\n|---|---|---|"
        )
        parts += [*rows, ""]
    return "\n".join(parts).rstrip() + "\n"


def _words(words: str) -> str:
    # A placeholder such as {bands!r} is a name to the reader.
    return re.sub(r"\{(\w+)[^}]*\}", r"*{\1}*", _cell(words))


def error_tree() -> dict[str, tuple[int, str, str]]:
    """Class -> (exit code, builtin exception or "", meaning), as `errors` draws its tree."""
    line = re.compile(r"\s*(?:[├└]── )?(\w+) +exit (\d+) +(?:([A-Z]\w+Error) +)?(.+)")
    found = (line.fullmatch(text) for text in (errors.__doc__ or "").splitlines())
    return {m[1]: (int(m[2]), m[3] or "", m[4].removesuffix(_UNLESS)) for m in found if m}


def networks_page() -> str:
    """The reference of the named networks."""
    rows = [_network(name, setting) for name, setting in SETTINGS.items()]
    return "\n".join([_NOTE, _NETWORKS_INTRO.rstrip(), *rows, "", _NETWORKS_NOTES])


def _network(name: str, setting: Setting) -> str:
    with torch.device("meta"):  # without storage
        network = make_network(
            setting.architecture, {"bands": 3, "classes": 2, **setting.parameters}
        )
    weights = sum(weight.numel() for weight in network.parameters()) / 1e6
    field, exact = network.field, network.inexact or "exact"
    about = f"{setting.about[0].upper()}{setting.about[1:]}"
    return f"| `{name}` | {about} | {weights:.2f} | {field.halo} | {field.stride} | {exact} |"


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
        print(path)
