"""Everything below a folder reaches the disk, folders after what is in them, in little memory."""

from __future__ import annotations

import errno
import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from tilseg import durable


def test_files_then_folders_are_synced_each_once(tmp_path, monkeypatch):
    monkeypatch.setattr(durable, "_IN_HAND", 3)
    for number in range(17):
        path = tmp_path / f"{number % 3}" / f"{number % 2}" / f"{number}.x"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    synced, lock = [], threading.Lock()

    def sync(path):
        with lock:
            synced.append(str(path))

    monkeypatch.setattr(durable, "sync", sync)
    durable.sync_tree(tmp_path)
    below = [str(path) for path in tmp_path.rglob("*")]
    assert sorted(synced) == sorted([str(tmp_path), *below])
    kinds = [os.path.isdir(path) for path in synced]
    assert kinds == sorted(kinds)


def test_what_can_not_be_replaced_stays(tmp_path, monkeypatch):
    output = tmp_path / "page"
    with durable.replacing(output) as folder:
        (folder / "x").write_text("old")
    rename = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError(errno.EDQUOT, "quota")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refused)
        with pytest.raises(OSError, match="quota"), durable.replacing(output) as folder:
            (folder / "x").write_text("new")
    assert (output / "x").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["page"]
    with durable.replacing(output) as folder:
        (folder / "x").write_text("new")
    assert (output / "x").read_text() == "new"


def test_of_many_files_few_are_in_hand(monkeypatch):
    names = [f"{number}.x" for number in range(30_000)]
    monkeypatch.setattr(durable, "sync", lambda path: None)
    monkeypatch.setattr(os, "walk", lambda root: iter([(str(root), [], names)]))
    durable.sync_tree("warm")
    tracemalloc.start()
    durable.sync_tree("many")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6
