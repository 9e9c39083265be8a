"""Job arrays without a scheduler: processes that share one run, as a user starts them."""

from __future__ import annotations

import random
import re
import time

import pytest
from forking import Commands
from undisturbed import RUN, blocks, equals_whole, lay_out, make_whole, until_blocks


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """Forked commands in a folder with an image and models, and its undisturbed result."""
    folder = tmp_path_factory.mktemp("desk")
    lay_out(folder)
    with Commands(folder) as found:
        make_whole(found)
        yield found


def _order(name: str, shard: str, *more: str) -> tuple[str, ...]:
    return ("run", "slide.tif", *RUN, "-o", name, "--shard", shard, *more)


def test_shards_one_after_the_other_end_in_the_same_bytes(commands):
    name = "turns.tilseg"
    for shard in ("2/4", "4/4", "1/4"):
        done = commands.run(*_order(name, shard))
        assert done.poll() == 0, done.stderr
        assert re.search(r"all shards +\d+ of 12 blocks done", done.stdout)
        assert not (commands.folder / name).exists()
    last = commands.run(*_order(name, "3/4"))
    assert last.poll() == 0, last.stderr
    assert re.search(r"^table +turns.tilseg/regions.csv$", last.stdout, re.M)
    assert equals_whole(commands.folder, name)
    again = commands.run(*_order(name, "2/4"))
    assert again.poll() == 0
    assert "nothing to do" in again.stdout


def test_all_shards_at_once_with_copies_of_each_publish_once(commands):
    """A copy is refused while its twin lives, and finds nothing to do afterwards."""
    name = "crowd.tilseg"
    started = [commands.start(*_order(name, f"{k}/3")) for k in (1, 2, 3) for _ in range(2)]
    codes = [command.wait() for command in started]
    assert set(codes) <= {0, 11}
    assert all(0 in codes[k : k + 2] for k in (0, 2, 4))
    assert equals_whole(commands.folder, name)
    published = [
        command
        for command in started
        if "blocks computed" in command.stdout and "crowd.tilseg/regions.csv" in command.stdout
    ]
    assert len(published) == 1


def test_shards_are_killed_and_run_again(commands):
    rng = random.Random(1)
    name = "killed.tilseg"
    folder = commands.folder
    for _ in range(12):
        two = [commands.start(*_order(name, f"{k}/2")) for k in (1, 2)]
        until_blocks(two[0], folder, name, blocks(folder, name) + rng.randint(1, 4))
        time.sleep(rng.uniform(0, 0.05))
        for command in two:
            command.kill()
            command.wait()
        if blocks(folder, name) >= 9 or (folder / name).exists():
            break
    for k in (2, 1):
        last = commands.run(*_order(name, f"{k}/2"))
        assert last.poll() == 0, last.stderr
    assert equals_whole(folder, name)


def test_the_one_that_publishes_is_killed_and_finish_takes_over(commands):
    name, folder = "orphan.tilseg", commands.folder
    partial = folder / f".{name}.partial"
    assert commands.run(*_order(name, "1/2")).poll() == 0
    early = commands.run("finish", name)
    assert early.poll() == 75
    assert "6 of 12 blocks are done" in early.stderr
    last = commands.start(*_order(name, "2/2"))
    while last.poll() is None and not list(partial.glob("result.*/mask.tif")):
        time.sleep(0.001)
    last.kill()
    assert last.wait() == -9
    assert not (folder / name).exists()
    finished = commands.run("finish", name)
    assert finished.poll() == 0, finished.stderr
    assert equals_whole(folder, name)
    assert "nothing to do" in commands.run("finish", name).stdout


def test_a_damaged_block_of_any_shard_is_computed_again(commands):
    name, folder = "damaged.tilseg", commands.folder
    assert commands.run(*_order(name, "1/2")).poll() == 0
    shards = sorted(folder.glob(f".{name}.partial/result.*/mask.zarr/0/c/*/*"))
    shards[2].write_bytes(b"")
    assert commands.run(*_order(name, "2/2")).poll() == 0
    assert equals_whole(folder, name)


def test_another_number_of_shards_and_a_plain_run_go_on(commands):
    name, folder = "mixed.tilseg", commands.folder
    assert commands.run(*_order(name, "1/2")).poll() == 0
    more = commands.run(*_order(name, "2/3"))
    assert "resuming: 2 of 4 blocks verified" in more.stderr
    plain = commands.run("run", "slide.tif", *RUN, "-o", name)
    assert "resuming: 8 of 12 blocks verified" in plain.stderr
    assert plain.poll() == 0
    assert equals_whole(folder, name)


def test_shards_of_different_plans_are_refused(commands):
    name = "differ.tilseg"
    assert commands.run(*_order(name, "1/2")).poll() == 0
    other = commands.run(*_order(name, "2/2", "--model", "other.safetensors"))
    assert other.poll() == 10
    assert other.stderr.count("\n") == 1
    assert "E-PARTIAL" in other.stderr
    assert "model (" in other.stderr
    assert commands.run(*_order(name, "2/2")).poll() == 0
    assert equals_whole(commands.folder, name)


def test_a_plain_run_waits_for_no_living_shard(commands):
    name, folder = "alive.tilseg", commands.folder
    shard = commands.start(*_order(name, "1/2"))
    until_blocks(shard, folder, name, 2)
    shard.signal(19)
    plain = commands.run("run", "slide.tif", *RUN, "-o", name)
    assert plain.poll() == 11
    assert f"process {shard.pid} on" in plain.stderr
    shard.signal(18)
    assert shard.wait() == 0, shard.stderr
    assert commands.run(*_order(name, "2/2")).poll() == 0
    assert equals_whole(folder, name)


def test_a_shard_whose_lock_is_broken_ends(commands):
    folder = commands.folder
    for turn in range(10):
        name = f"broken{turn}.tilseg"
        first = commands.start(*_order(name, "1/2"))
        until_blocks(first, folder, name, 1)
        first.signal(19)
        if blocks(folder, name) < 6:
            break
        # It was done before it was stopped, and has nothing left to be told at.
        first.signal(18)
        assert first.wait() == 0
    assert commands.run(*_order(name, "1/2")).poll() == 11
    assert commands.run(*_order(name, "1/2", "--break-lock")).poll() == 0
    first.signal(18)
    assert first.wait() == 11
    assert commands.run(*_order(name, "2/2")).poll() == 0
    assert equals_whole(folder, name)


def test_what_makes_no_sense_is_one_line(commands):
    for arguments, code, words in [
        (_order("x.tilseg", "5/4"), 2, "--shard '5/4' is not allowed; use K/N"),
        (_order("x.tilseg", "1/4", "--overwrite"), 2, "exclude each other"),
        (("finish", "nothing.tilseg"), 4, "E-FINISH-NOTHING"),
    ]:
        refused = commands.run(*arguments)
        assert refused.poll() == code
        assert words in refused.stderr
        assert refused.stderr.count("\n") == 1
