"""Damaged files and bombs through the real command: the short form of benchmarks/chaos/hostile.py."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import bombs
import pytest
from forking import Command, Commands
from mutants import KINDS, mutate
from tiny import save_tiny_model

OPTIONS = ("--tile", "64", "--threads", "1", "--workers", "1", "-o", "out.tilseg", "--json")
# What may be new beside the image, by exit code.
LEFT: dict[int, set[str]] = {0: {"out.tilseg"}, 5: {".out.tilseg.partial"}}
MUTANTS = 12
# The others take seconds to be made.
SLOW = {"deflate_tile", "deflate_map_tile", "lzma_tile", "webp_tile", "png_text", "zarr_gzip",
        "zarr_zstd", "zarr_blosc", "model_header", "model_zip"}  # fmt: skip
IMAGES = sorted(bombs.IMAGES.keys() - SLOW)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    folder = tmp_path_factory.mktemp("desk")
    (folder / "good").mkdir()
    for name, make in KINDS.values():
        make(folder / "good" / name)
    save_tiny_model(folder / "good" / "one.safetensors", bands=1)
    with Commands(folder) as found:
        yield found


def _check(command: Command, left: set[str]) -> None:
    """One line with the id and the right code, no traceback, and nothing left that may not be."""
    code = command.poll()
    assert code in (0, 4, 5, 6, 8), command.stderr
    assert left <= LEFT.get(code, set())
    assert "Traceback" not in command.stderr
    if code:
        assert json.loads(command.stderr.splitlines()[-1])["exit_code"] == code
        assert command.stdout == ""


def _run(commands: Commands, image: str, model: str) -> Command:
    before = {path.name for path in commands.folder.iterdir()}
    command = commands.run("run", image, "--model", model, *OPTIONS)
    left = {path.name for path in commands.folder.iterdir()} - before
    _check(command, left)
    for name in left:
        shutil.rmtree(commands.folder / name)
    return command


@pytest.mark.parametrize("kind", KINDS)
def test_damage_ends_in_one_line_or_a_result(commands, kind):
    name = KINDS[kind][0]
    good = commands.folder / "good"
    codes = set()
    for number in range(MUTANTS):
        bad = commands.folder / f"bad-{name}"
        mutate(good / name, bad, random.Random(f"short {kind} {number}"))
        image = "good/image.tif" if kind == "model" else bad.name
        model = bad.name if kind == "model" else "good/tiny.safetensors"
        codes.add(_run(commands, image, model).poll())
        shutil.rmtree(bad) if bad.is_dir() else bad.unlink()
    assert codes - {0}


@pytest.mark.parametrize("name", IMAGES)
def test_images_that_ask_for_gigabytes(commands, name):
    bad = Path(commands.folder, name)
    bombs.IMAGES[name](bad)
    idle = commands.run("--version").usage[1]
    bands = json.loads(commands.run("info", name, "--json").stdout or "{}").get("bands", 3)
    command = _run(commands, name, f"good/{'one' if bands == 1 else 'tiny'}.safetensors")
    seconds, megabytes = command.usage
    assert command.poll() == 4
    assert seconds < 2
    assert megabytes - idle < 500


def test_a_model_that_asks_for_a_terabyte(commands):
    bombs.model_hole(commands.folder / "hole.safetensors")
    idle = commands.run("--version").usage[1]
    command = _run(commands, "good/image.tif", "hole.safetensors")
    assert command.poll() == 6
    assert command.usage[1] - idle < 500
