"""The promises of a run that is disturbed, in their short form; benchmarks/chaos has the long one."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import rasterio
import tifffile
import zarr
from damage import damage, flip_bit
from forking import Commands
from rasterio.transform import from_origin
from tiny import noise, tree
from undisturbed import RUN, SHAPE, blocks, equals_whole, lay_out, make_whole, until_blocks

import tilseg
from tilseg.errors import DamageError


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """Forked commands in a folder with images and models, and their undisturbed results."""
    folder = tmp_path_factory.mktemp("desk")
    pixels = lay_out(folder)
    place = {"crs": "EPSG:32633", "transform": from_origin(4e5, 5e6, 0.5, 0.5)}
    size = {"height": SHAPE[0], "width": SHAPE[1], "count": 3, "dtype": "uint8"}
    with rasterio.open(folder / "scene.tif", "w", driver="GTiff", **size, **place) as scene:
        scene.write(pixels.transpose(2, 0, 1))
    with Commands(folder, preload=("deadly",)) as found:
        for image in ("slide", "scene"):
            make_whole(found, image)
        yield found


@pytest.mark.parametrize(("image", "seed"), [("slide", 5), ("scene", 6)])
def test_killed_and_damaged_it_ends_in_the_same_bytes(commands, image, seed):
    rng = random.Random(seed)
    name = f"killed-{image}.tilseg"
    final = commands.folder / name
    for _ in range(8):
        command = commands.start("run", f"{image}.tif", *RUN, "-o", name)
        if rng.random() < 0.6:
            kept = blocks(commands.folder, name)
            until_blocks(command, commands.folder, name, kept + rng.randint(1, 6))
        else:
            partial = commands.folder / f".{name}.partial"
            while command.poll() is None and not list(partial.glob("result.*/summary.json")):
                time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03))
        command.kill()
        if command.wait() == 0:
            break
        assert not final.exists() or tilseg.verify(final) == []
        partial = commands.folder / f".{name}.partial"
        if rng.random() < 0.6 and partial.exists():
            damage(partial, rng)
    last = commands.run("run", f"{image}.tif", *RUN, "-o", name)
    assert last.poll() == 0, last.stderr
    assert equals_whole(commands.folder, name, image)


def test_a_resumed_run_says_how_many_blocks_it_verified(commands):
    name = "resumed.tilseg"
    _killed(commands, name, "run", "slide.tif", *RUN, "-o", name)
    kept = blocks(commands.folder, name)
    whole = json.loads((commands.folder / "whole-slide.tilseg/run.json").read_bytes())
    total = len(whole["blocks"])
    shards = sorted((commands.folder / f".{name}.partial").glob("result.*/mask.zarr/0/c/*/*"))
    shards[0].write_bytes(b"")
    again = commands.run("run", "slide.tif", *RUN, "-o", name)
    assert f"resuming: {kept - 1} of {total} blocks verified; 1 are" in again.stderr
    assert equals_whole(commands.folder, name)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_ends_it_as_that_signal_and_nothing_is_lost(commands, number):
    name = f"{number.name}.tilseg"
    command = commands.start("run", "slide.tif", *RUN, "-o", name)
    until_blocks(command, commands.folder, name, 3)
    command.signal(number, group=True)
    assert command.wait() == -number
    assert command.stderr.startswith("stopped after ")
    kept = blocks(commands.folder, name)
    again = commands.run("run", "slide.tif", *RUN, "-o", name)
    assert f"resuming: {kept} of " in again.stderr
    assert equals_whole(commands.folder, name)


def test_a_spent_budget_ends_it_with_75_and_nothing_is_lost(commands):
    name = "spent.tilseg"
    order = ("run", "slide.tif", *RUN, "-o", name)
    _killed(commands, name, *order)
    kept = blocks(commands.folder, name)
    spent = commands.run(*order, "--stop-after", "0s")
    assert spent.poll() == 75, spent.stderr
    assert "run the same command again to continue" in spent.stderr
    assert blocks(commands.folder, name) == kept
    again = commands.run(*order)
    assert f"resuming: {kept} of " in again.stderr
    assert equals_whole(commands.folder, name)


def _killed(commands: Commands, name: str, *order: object) -> None:
    """Start a command and kill it after a few blocks."""
    command = commands.start(*order)
    until_blocks(command, commands.folder, name, 3)
    command.kill()
    assert command.wait() == -signal.SIGKILL


def test_worker_processes_mind_no_signal_and_die_with_their_driver(commands):
    name = "processes.tilseg"
    order = ("run", "slide.tif", *RUN, "-o", name, "--processes", "--workers", "1")
    command = commands.start(*order)
    until_blocks(command, commands.folder, name, 1)
    workers = psutil.Process(command.pid).children(recursive=True)
    for worker in workers:
        # What a terminal or SLURM sends to all processes of a run.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            worker.send_signal(number)
    until_blocks(command, commands.folder, name, 3)
    assert all(worker.is_running() for worker in workers)
    command.kill()
    command.wait()
    gone, alive = psutil.wait_procs(workers, timeout=20)
    assert gone
    assert not alive
    again = commands.run("run", "slide.tif", *RUN, "-o", name)
    assert again.poll() == 0, again.stderr
    assert equals_whole(commands.folder, name)


def _deadly(commands: Commands, name: str, deaths: int, hang: bool = False) -> dict[str, int]:
    window = {"row": 200, "col": 200, "rows": 10, "cols": 10}
    content = {"image": "slide.tif", "window": list(window.values()), "deaths": deaths}
    content["hang"] = hang
    (commands.folder / f"{name}.deadly").write_text(json.dumps(content))
    return window


def _deaths(commands: Commands, name: str) -> int:
    return len((commands.folder / f"{name}.deaths").read_text().split())


def test_the_second_signal_is_immediate(commands):
    _deadly(commands, "hung", deaths=1, hang=True)
    order = ("run", "hung.deadly", *RUN, "-o", "hung.tilseg")
    command = commands.start(*order)
    while not (commands.folder / "hung.deaths").exists():
        time.sleep(0.002)
    until_blocks(command, commands.folder, "hung.tilseg", 3)
    kept = blocks(commands.folder, "hung.tilseg")
    command.signal(signal.SIGTERM)
    # The first waits for a block that never comes.
    while command.poll() is None:
        command.signal(signal.SIGINT)
        time.sleep(0.002)
    # Of two that come before either is heard, Python hears the one of the lower number first.
    assert command.poll() in (-signal.SIGINT, -signal.SIGTERM)
    again = commands.run(*order)
    assert again.poll() == 0
    resumed = int(again.stderr.split("resuming: ")[1].split()[0])
    assert resumed >= kept


def test_blocks_under_way_at_two_deaths_are_tried_alone(commands):
    _deadly(commands, "twice", deaths=3)
    order = ("run", "twice.deadly", *RUN, "-o", "twice.tilseg")
    assert [commands.run(*order).poll() for _ in range(2)] == [9, 9]
    # Now in a process of its own, of which the first dies too; this one goes on.
    last = commands.run(*order)
    assert last.poll() == 0, last.stderr
    assert _deaths(commands, "twice") == 3
    whole, found = commands.folder / "whole-slide.tilseg", commands.folder / "twice.tilseg"
    assert (found / "mask.tif").stat().st_size == (whole / "mask.tif").stat().st_size
    np.testing.assert_array_equal(_mask(found), _mask(whole))


def test_a_block_that_kills_every_process_is_named_or_left_out(commands):
    window = _deadly(commands, "always", deaths=99)
    order = ("run", "always.deadly", *RUN, "-o", "always.tilseg")
    assert [commands.run(*order).poll() for _ in range(2)] == [9, 9]
    done = commands.run(*order, "--on-bad-tile", "mask")
    assert done.poll() == 3, done.stderr
    receipt = json.loads((commands.folder / "always.tilseg" / "run.json").read_bytes())
    (bad,) = receipt["bad_tiles"]
    assert "died" in bad["reason"]
    place = bad["window"]
    inside = place["row"] <= window["row"] and place["col"] <= window["col"]
    assert inside
    expected = _mask(commands.folder / "whole-slide.tilseg")
    rows = slice(place["row"], place["row"] + place["rows"])
    expected[rows, place["col"] : place["col"] + place["cols"]] = 255
    np.testing.assert_array_equal(_mask(commands.folder / "always.tilseg"), expected)
    assert receipt["status"] == "degraded"


def _mask(result: Path) -> np.ndarray:
    return np.asarray(zarr.open_group(result / "mask.zarr", mode="r")["0"])


def test_unreadable_tiles_are_named_or_left_out_and_nothing_else(commands):
    folder = commands.folder
    pixels = noise(*SHAPE)
    jpeg = folder / "jpeg.tif"
    tifffile.imwrite(jpeg, pixels, tile=(64, 64), photometric="rgb", compression="jpeg")
    assert commands.run("run", "jpeg.tif", *RUN, "-o", "sound.tilseg").poll() == 0
    with tifffile.TiffFile(jpeg) as file:
        page = file.pages[0]
        where = np.zeros(SHAPE, bool)
        content = bytearray(jpeg.read_bytes())
        for index, keep in [(0, 0.0), (20, 0.5), (47, 0.9)]:
            offset, count = page.dataoffsets[index], page.databytecounts[index]
            begin = int(keep * count)
            content[offset + begin : offset + count] = bytes(count - begin)
            row, col = divmod(index, -(-SHAPE[1] // 64))
            where[row * 64 : row * 64 + 64, col * 64 : col * 64 + 64] = True
    jpeg.write_bytes(content)
    order = ("run", "jpeg.tif", *RUN, "-o", "holes.tilseg")
    failed = commands.run(*order)
    assert failed.poll() == 5, failed.stderr
    assert "can't be decoded" in failed.stderr
    assert not (folder / "holes.tilseg").exists()
    masked = commands.run(*order, "--on-bad-tile", "mask")
    assert masked.poll() == 3, masked.stderr
    assert "resuming: " in masked.stderr
    receipt = json.loads((folder / "holes.tilseg" / "run.json").read_bytes())
    out = _seen(receipt, where)
    named = np.zeros(SHAPE, bool)
    for tile in receipt["bad_tiles"]:
        row, col, rows, cols = tile["window"].values()
        named[row : row + rows, col : col + cols] = True
    np.testing.assert_array_equal(named, out)
    expected = np.where(out, 255, _mask(folder / "sound.tilseg"))
    np.testing.assert_array_equal(_mask(folder / "holes.tilseg"), expected)
    assert commands.run(*order, "--on-bad-tile", "mask").poll() == 3
    again = commands.run(*order)
    assert again.poll() == 10
    assert "on-bad-tile (mask -> fail)" in again.stderr


def _seen(receipt: dict[str, Any], where: np.ndarray) -> np.ndarray:
    """The pixels of all tiles whose input, mirrored at the borders, holds a damaged pixel."""
    from tilseg.fingerprint import plan_from_json

    grid = plan_from_json(receipt["plan"]).grid
    reach = max(grid.input)
    mirrored = np.pad(where, reach, mode="reflect")
    seen = np.zeros(where.shape, bool)
    for block in grid:
        for tile in block.tiles:
            row, col = tile.read.row + reach, tile.read.col + reach
            seen[tile.write.slices] = mirrored[
                row : row + tile.read.rows, col : col + tile.read.cols
            ].any()
    return seen


@pytest.mark.parametrize("image", ["slide", "scene"])
def test_a_file_the_disk_refuses_ends_it_with_7_and_it_continues(commands, image):
    largest = max(
        path.stat().st_size
        for path in (commands.folder / f"whole-{image}.tilseg").rglob("*")
        if path.is_file()
    )
    for share in (0.0, 0.2, 0.7, 0.99):
        name = f"full-{image}-{share}.tilseg"
        order = ("run", f"{image}.tif", *RUN, "-o", name)
        full = commands.run(*order, limit=int(share * largest))
        assert full.poll() == 7, full.stderr
        assert not (commands.folder / name).exists()
        assert commands.run(*order).poll() == 0
        assert equals_whole(commands.folder, name, image)


def test_of_two_at_once_one_wins_and_the_other_names_it(commands):
    for number in range(3):
        name = f"race{number}.tilseg"
        two = [commands.start("run", "slide.tif", *RUN, "-o", name) for _ in range(2)]
        codes = [command.wait() for command in two]
        assert sorted(codes) == [0, 11]
        loser, winner = (two[codes.index(code)] for code in (11, 0))
        assert f"process {winner.pid} on" in loser.stderr
        assert equals_whole(commands.folder, name)


def test_a_broken_lock_ends_the_run_that_held_it(commands):
    name = "broken.tilseg"
    first = commands.start("run", "slide.tif", *RUN, "-o", name)
    until_blocks(first, commands.folder, name, 2)
    first.signal(signal.SIGSTOP)
    second = commands.run("run", "slide.tif", *RUN, "-o", name)
    assert second.poll() == 11
    third = commands.run("run", "slide.tif", *RUN, "-o", name, "--break-lock")
    assert third.poll() == 0, third.stderr
    first.signal(signal.SIGCONT)
    assert first.wait() != 0
    assert first.stderr.startswith("error[E-")
    assert commands.run("run", "slide.tif", *RUN, "-o", name).poll() == 0
    assert equals_whole(commands.folder, name)


@pytest.mark.parametrize("change", ["touch", "append", "remove"])
def test_an_input_that_changes_meanwhile_is_not_published(commands, change):
    folder = commands.folder
    image, name = folder / f"{change}.tif", f"{change}.tilseg"
    shutil.copy(folder / "slide.tif", image)
    command = commands.start("run", image, *RUN, "-o", name)
    until_blocks(command, commands.folder, name, 2)
    if change == "touch":
        image.touch()
    elif change == "append":
        with image.open("ab") as file:
            file.write(b"more")
    else:
        image.unlink()
    assert command.wait() == 4, command.stderr
    assert "error[E-INPUT-CHANGED]" in command.stderr
    assert not (folder / name).exists()


@pytest.mark.parametrize("image", ["slide", "scene"])
def test_verify_names_every_flipped_bit(commands, image):
    rng = random.Random(3)
    result = commands.folder / f"whole-{image}.tilseg"
    files = sorted(path for path in result.rglob("*") if path.is_file())
    for flip in range(100):
        path = files[flip % len(files)]
        whole = path.read_bytes()
        flip_bit(path, rng)
        try:
            assert [each.path for each in tilseg.verify(result)] == [str(path.relative_to(result))]
        except DamageError:
            assert path == result / "run.json"
        path.write_bytes(whole)
    assert tilseg.verify(result) == []


def test_a_damaged_result_is_made_anew_by_overwriting(commands):
    name = "anew.tilseg"
    result = commands.folder / name
    order = ("run", "slide.tif", *RUN, "-o", name)
    assert commands.run(*order).poll() == 0
    flip_bit(result / "run.json", random.Random(1))
    refused = commands.run(*order)
    assert refused.poll() == 10
    assert "E-EXISTS-DAMAGED" in refused.stderr
    assert commands.run(*order, "--overwrite").poll() == 0
    assert equals_whole(commands.folder, name)


def test_a_result_that_lacks_a_file_is_not_called_complete(commands):
    name = "lacking.tilseg"
    order = ("run", "slide.tif", *RUN, "-o", name)
    assert commands.run(*order).poll() == 0
    (commands.folder / name / "mask.tif").unlink()
    refused = commands.run(*order)
    assert refused.poll() == 10
    assert "mask.tif (missing)" in refused.stderr
    assert commands.run(*order, "--overwrite").poll() == 0
    assert equals_whole(commands.folder, name)


@pytest.mark.parametrize("suffix", [".tilseg", ".tif"])
@pytest.mark.parametrize("kind", ["same", "other", "without a plan"])
def test_an_unfinished_run_beside_a_finished_one(commands, kind, suffix):
    """What a killed `--overwrite` left is removed when nobody needs it, and else waits."""
    name = f"{kind}{suffix}"
    final, partial = commands.folder / name, commands.folder / f".{name}.partial"
    order = ("run", "slide.tif", *RUN, "-o", name)
    renew = ("run", "slide.tif", *RUN, "-o", name, "--overwrite")
    if kind != "same":
        renew += ("--model", "other.safetensors")
    assert commands.run(*order).poll() == 0
    found = tree(final, without=()) if final.is_dir() else final.read_bytes()
    _killed(commands, name, *renew)
    if kind == "without a plan":
        (partial / "plan.json").write_text("{")
    again = commands.run(*order)
    assert again.poll() == 0, again.stderr
    assert (tree(final, without=()) if final.is_dir() else final.read_bytes()) == found
    assert partial.exists() == (kind == "other")
    last = commands.run(*renew)
    assert last.poll() == 0, last.stderr
    assert ("resuming: " in last.stderr) == (kind == "other")
    assert tilseg.verify(final) == []
    assert not list(commands.folder.glob(f".{name}*"))


def test_what_a_late_worker_was_writing_is_not_published(commands):
    """One that was given up and lives on: its private file is there when the receipt is made."""
    folder, name = commands.folder, "late.tilseg"
    source = tilseg.open_source(folder / "slide.tif")
    plan = tilseg.make_plan(source, tilseg.load_model(folder / "tiny.safetensors"), tile=64)
    late = []

    def write(progress: Any) -> None:
        if progress.phase == "regions" and not late:
            (shard, *_) = folder.glob(f".{name}.partial/result.*/mask.zarr/0/c/0")
            late.append(shard / ".0.late.partial")
            late[0].write_bytes(b"half")

    tilseg.run(plan, folder / name, progress=write)
    assert late
    assert tilseg.verify(folder / name) == []
    assert not list((folder / name).rglob("*.partial"))
