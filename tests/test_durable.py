"""Everything below a folder reaches the disk, folders after what is in them, in little memory."""

from __future__ import annotations

import os
import threading
import tracemalloc

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
