"""A shard begins only while nobody else makes, joins or publishes the run."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import tifffile
from tiny import noise, save_tiny_model

import tilseg
from tilseg.errors import LockedError, Stopped
from tilseg.verbs import shards
from tilseg.workspace import Workspace


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    tifffile.imwrite(folder / "image.tif", noise(211, 157), tile=(64, 64), photometric="rgb")
    save_tiny_model(folder / "tiny.safetensors")
    source = tilseg.open_source(folder / "image.tif")
    model = tilseg.load_model(folder / "tiny.safetensors", device="cpu")
    return tilseg.make_plan(source, model, tile=64, memory="2GB", threads=1, regions=None)


@pytest.fixture
def output(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(shards, "_LOOK_SECONDS", 0.0)
    return tmp_path / "x.tilseg"


def test_the_first_one_is_waited_for_however_long_it_takes(plan, output):
    """While it measures what is not exact there is no plan yet that others could join."""
    held, looked = threading.Event(), threading.Event()

    def first() -> None:
        with Workspace(output).lock.held():
            held.set()
            looked.wait()

    def stop() -> bool:
        looked.set()
        return False

    thread = threading.Thread(target=first)
    thread.start()
    held.wait()
    report = tilseg.run(plan, output, shard=(1, 2), stop=stop)
    thread.join()
    assert report.status == "unfinished"
    assert report.done == len(plan.grid) // 2
    assert tilseg.run(plan, output, shard=(2, 2)).status == "complete"


def test_one_that_cannot_begin_says_so(plan, output, monkeypatch):
    with Workspace(output).lock.held():
        with pytest.raises(Stopped):
            tilseg.run(plan, output, shard=(1, 2), stop=lambda: True)
        monkeypatch.setattr(shards, "_JOIN_SECONDS", 0.0)
        with pytest.raises(LockedError, match="another run"):
            tilseg.run(plan, output, shard=(1, 2))
