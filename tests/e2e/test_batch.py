"""Many images into one folder, as a user types it: disturbed, repeated, and shared."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import tifffile
from damage import flip_bit
from forking import Command, Commands
from tiny import STEADY, noise, save_tiny_model, tree

import tilseg

RUN = ("--model", "tiny.safetensors", "--tile", "64", "--threads", "1")
SIZES = [(201 + 22 * k, 223 - 10 * k) for k in range(5)]


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """Forked commands in a folder with five images and two that are none."""
    folder = tmp_path_factory.mktemp("desk")
    save_tiny_model(folder / "tiny.safetensors", classes=3, normalization=STEADY)
    save_tiny_model(folder / "other.safetensors", classes=3, seed=1, normalization=STEADY)
    (folder / "slides").mkdir()
    for k, shape in enumerate(SIZES):
        path = folder / "slides" / f"s{k}.tif"
        tifffile.imwrite(path, noise(*shape, seed=k), tile=(64, 64), photometric="rgb")
    (folder / "slides" / "s3-page.tif").write_text("<!DOCTYPE html>")
    whole = (folder / "slides" / "s2.tif").read_bytes()
    (folder / "slides" / "s2-half.tif").write_bytes(whole[: len(whole) // 2])
    with Commands(folder) as found:
        for k in (0, 4):
            done = found.run("run", f"slides/s{k}.tif", *RUN, "-o", f"whole{k}.tilseg")
            assert done.poll() == 0, done.stderr
        yield found


def _lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "batch.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def _computed(command: Command) -> list[str]:
    """Names of the images that a command has segmented."""
    return re.findall(r"^image \d+ of \d+: (\S+) complete in", command.stderr, re.M)


def _check(commands: Commands, results: Path, images: int = 5) -> None:
    """Every result is whole, two are as if they had been alone, and nothing else is left."""
    found = sorted(results.glob("*.tilseg"))
    assert len(found) == images
    for result in found:
        assert tilseg.verify(result) == []
    for k in (0, 4):
        assert tree(results / f"s{k}.tilseg") == tree(commands.folder / f"whole{k}.tilseg")
    assert {path.name for path in results.glob(".*")} == {".batch"}
    assert {path.suffix for path in (results / ".batch").iterdir()} == {".json"}


def test_two_bad_images_of_seven_do_not_stop_the_others(commands):
    results = commands.folder / "seven"
    order = ("run", "slides/*.tif", *RUN, "-o", "seven/")
    done = commands.run(*order)
    assert done.poll() == 13, done.stderr
    _check(commands, results)
    *listed, error = done.stderr.splitlines()[-3:]
    assert "[E-INPUT-TRUNCATED]" in listed[0]
    assert "s2-half.tif" in listed[0]
    assert "[E-INPUT-FORMAT]" in listed[1]
    assert "s3-page.tif" in listed[1]
    assert error.startswith("error[E-BATCH-FAILED]: 2 of 7 images failed")
    table = {Path(line["image"]).name: line for line in _lines(results)}
    assert Counter(line["status"] for line in table.values()) == {"complete": 5, "failed": 2}
    summary = json.loads((results / "s2.tilseg" / "summary.json").read_bytes())
    for one in summary["classes"]:
        assert float(table["s2.tif"][f"{one['name']} fraction"]) == one["fraction"]
    page = (results / "batch.html").read_text()
    assert page.count("<img") == 5
    assert "5 complete, 2 failed" in page
    before = tree(results, without=())
    again = commands.run(*order)
    assert again.poll() == 13
    assert _computed(again) == []
    left = {name: content for name, content in tree(results, without=()).items()
            if not name.startswith((".batch", "batch."))}  # fmt: skip
    assert left.items() <= before.items()


def test_where_all_is_done_no_network_is_loaded(commands):
    order = ["run", *(f"slides/s{k}.tif" for k in (2, 1)), *RUN, "-o", "few"]
    first = commands.run(*order)
    assert first.poll() == 0, first.stderr
    assert sorted(_computed(first)) == ["s1.tif", "s2.tif"]
    program = (
        "import sys\nfrom tilseg.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n"
        "    print([name for name in ('torch', 'distributed') if name in sys.modules])"
    )
    again = subprocess.run(
        [sys.executable, "-c", program, *order],
        cwd=commands.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == "[]"
    assert "2 complete" in again.stdout
    assert again.stderr == ""


@pytest.mark.parametrize("change", ["options", "image", "result", "receipt"])
def test_what_is_not_as_it_was_asked_for_is_not_skipped(commands, change):
    folder = commands.folder
    shutil.copy(folder / "slides" / "s1.tif", folder / f"{change}.tif")
    order = ("run", f"{change}.tif", "-o", f"{change}s/")
    assert commands.run(*order, *RUN).poll() == 0
    result = folder / f"{change}s" / f"{change}.tilseg"
    more: tuple[str, ...] = ()
    if change == "options":
        more = ("--min-area", "9")
    elif change == "image":
        (folder / f"{change}.tif").touch()
    elif change == "result":
        (result / "mask.tif").unlink()
    else:
        flip_bit(result / "run.json", random.Random(1))
    refused = commands.run(*order, *RUN, *more)
    assert refused.poll() == 13
    assert ("[E-EXISTS-DAMAGED]" if change == "receipt" else "[E-EXISTS]") in refused.stderr
    renewed = commands.run(*order, *RUN, *more, "--overwrite")
    assert renewed.poll() == 0, renewed.stderr
    assert _computed(renewed) == [f"{change}.tif"]
    assert tilseg.verify(result) == []
    # What an interrupted `--overwrite` has done it does not do again.
    assert _computed(commands.run(*order, *RUN, *more, "--overwrite")) == []


def _until(command: Command, folder: Path, results: int) -> None:
    while command.poll() is None and len(list(folder.glob("*.tilseg"))) < results:
        time.sleep(0.002)


def test_killed_twice_and_stopped_it_goes_on_where_it_was(commands):
    results = commands.folder / "killed"
    order = ("run", "slides/s?.tif", *RUN, "-o", "killed/")
    computed = []
    for number, at in [(signal.SIGKILL, 1), (signal.SIGKILL, 2), (signal.SIGTERM, 3)]:
        command = commands.start(*order)
        _until(command, results, at)
        command.signal(number)
        assert command.wait() == -number
        computed += _computed(command)
    assert re.search(r"stopped after \d of \d images; run the same command again", command.stderr)
    statuses = Counter(line["status"] for line in _lines(results))
    assert statuses["complete"] >= 3
    assert statuses["waiting"] == 5 - statuses["complete"]
    last = commands.run(*order)
    assert last.poll() == 0, last.stderr
    computed += _computed(last)
    assert max(Counter(computed).values()) == 1
    _check(commands, results)


def test_three_at_once_share_a_folder_and_take_each_image_once(commands):
    order = ("run", "slides/s?.tif", *RUN, "-o", "shared/")
    crew = [commands.start(*order) for _ in range(3)]
    assert [command.wait() for command in crew] == [0, 0, 0]
    taken = Counter(name for command in crew for name in _computed(command))
    assert taken == {f"s{k}.tif": 1 for k in range(5)}
    _check(commands, commands.folder / "shared")
    last = commands.run(*order)
    assert {line["status"] for line in _lines(commands.folder / "shared")} == {"complete"}
    assert "5 complete" in last.stdout


def test_an_image_that_another_owns_is_left_to_it(commands):
    results = commands.folder / "owned"
    results.mkdir()
    other = commands.start("run", "slides/s4.tif", *RUN, "-o", "owned/s4.tilseg")
    while other.poll() is None and not list(results.glob(".s4*.partial/journal*")):
        time.sleep(0.002)
    other.signal(signal.SIGSTOP)
    order = ("run", "slides/s0.tif", "slides/s4.tif", *RUN, "-o", "owned")
    done = commands.run(*order)
    assert done.poll() == 0, done.stderr
    assert _computed(done) == ["s0.tif"]
    assert f"s4.tif: another run owns it (process {other.pid} on " in done.stderr
    assert [line["status"] for line in _lines(results)] == ["complete", "elsewhere"]
    other.signal(signal.SIGCONT)
    assert other.wait() == 0
    again = commands.run(*order)
    assert "s4.tif found complete" in again.stderr
    _check(commands, results, images=2)


def test_shards_of_a_batch_are_shares_of_its_images(commands):
    order = ("run", "slides/s?.tif", *RUN, "-o", "parts/", "--shard")
    parts = [commands.run(*order, f"{k}/3") for k in (1, 2, 3)]
    assert [part.poll() for part in parts] == [0, 0, 0]
    assert [len(_computed(part)) for part in parts] == [1, 2, 2]
    assert "2 complete" in parts[2].stdout
    _check(commands, commands.folder / "parts")
    assert len(_lines(commands.folder / "parts")) == 5


def test_a_manifest_says_what_is_special_about_an_image(commands):
    folder = commands.folder
    shutil.copy(folder / "other.safetensors", folder / "slides")
    square = [[10, 10], [90, 10], [90, 60], [10, 60], [10, 10]]
    shape = {"type": "Polygon", "coordinates": [square]}
    (folder / "slides" / "roi.geojson").write_text(json.dumps(shape))
    (folder / "slides" / "list.csv").write_text(
        "path,model,pixel_size,roi,out\n"
        "s0.tif,,,,\n"
        "s1.tif,other.safetensors,0.5um,,\n"
        "s1.tif,,,roi.geojson,part.tif\n"
        "gone.tif,,,,\n"
    )
    done = commands.run("run", "slides/list.csv", *RUN, "-o", "special/")
    assert done.poll() == 13
    assert "gone.tif: no such file" in done.stderr
    results = folder / "special"
    assert tree(results / "s0.tilseg") == tree(folder / "whole0.tilseg")
    receipt = json.loads((results / "s1.tilseg" / "run.json").read_bytes())
    assert receipt["model"]["name"] == "other"
    assert receipt["summary"]["pixel_size"] == [0.5, 0.5]
    mask = tifffile.imread(results / "part.tif")
    assert (mask[:10] == 255).all()
    assert (mask[12:58, 12:88] != 255).all()
    assert _computed(commands.run("run", "slides/list.csv", *RUN, "-o", "special/")) == []


def test_a_larger_batch_leaves_the_names_of_a_smaller_one(commands):
    folder = commands.folder
    for place in ("zoo", "ark"):
        (folder / place).mkdir()
        shutil.copy(folder / "slides" / "s3.tif", folder / place / "cat.tif")
    assert commands.run("run", "zoo/*.tif", *RUN, "-o", "pets/").poll() == 0
    assert [path.name for path in (folder / "pets").glob("*.tilseg")] == ["cat.tilseg"]
    both = commands.run("run", "*/cat.tif", *RUN, "-o", "pets/")
    assert both.poll() == 0, both.stderr
    assert len(_computed(both)) == 1
    lines = {line["image"]: line["result"] for line in _lines(folder / "pets")}
    assert lines[str(folder / "zoo" / "cat.tif")] == "cat.tilseg"
    assert re.fullmatch(r"cat-[0-9a-f]{8}\.tilseg", lines[str(folder / "ark" / "cat.tif")])


def test_a_full_disk_ends_the_batch(commands):
    largest = max(path.stat().st_size for path in (commands.folder / "whole4.tilseg").rglob("*"))
    order = ("run", "slides/s?.tif", *RUN, "-o", "full/")
    full = commands.run(*order, limit=largest // 2)
    assert full.poll() == 7, full.stderr
    assert not list((commands.folder / "full").glob("*.tilseg"))
    assert commands.run(*order).poll() == 0
    _check(commands, commands.folder / "full")


def test_one_image_is_a_batch_only_with_a_slash(commands):
    folder = commands.folder
    assert commands.run("run", "slides/s0.tif", *RUN, "-o", "plain").poll() == 0
    assert (folder / "plain" / "run.json").exists()
    assert commands.run("run", "slides/s0.tif", *RUN, "-o", "one/").poll() == 0
    assert (folder / "one" / "s0.tilseg" / "run.json").exists()
    assert commands.run("run", "slides/s0.tif", *RUN, "-o", "two.tilseg/").poll() == 0
    assert (folder / "two.tilseg" / "run.json").exists()


def test_what_makes_no_sense_is_one_line(commands):
    folder = commands.folder
    (folder / "mine").mkdir(exist_ok=True)
    (folder / "mine" / "batch.csv").write_text("my own\n")
    (folder / "bad.csv").write_text("path,slide\n")
    (folder / "same.csv").write_text("path,out\na.tif,x\nb.tif,x\n")
    two = ("run", "slides/s0.tif", "slides/s1.tif", *RUN)
    for arguments, code, words in [
        (two, 2, "add -o results/"),
        ((*two, "-o", "x.tif"), 2, "a folder for the results"),
        ((*two, "-o", "whole0.tilseg"), 2, "a folder for the results"),
        ((*two, "-o", "no/where/"), 7, "E-OUTPUT-PARENT"),
        ((*two, "-o", "mine/"), 10, "E-EXISTS-FOREIGN"),
        ((*two, "-o", "x/", "--model", "gone"), 6, "E-MODEL-MISSING"),
        (("run", "*.nothing", *RUN, "-o", "x/"), 4, "*.nothing: no such file"),
        (("run", "bad.csv", *RUN, "-o", "x/"), 2, "unknown column 'slide'"),
        (("run", "gone.csv", *RUN, "-o", "x/"), 4, "gone.csv: no such file"),
        (("run", "same.csv", *RUN, "-o", "x/"), 2, "would both become x"),
    ]:
        refused = commands.run(*arguments)
        assert refused.poll() == code, refused.stderr
        assert words in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert (folder / "mine" / "batch.csv").read_text() == "my own\n"
