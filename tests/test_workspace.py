"""Publishing is one rename, repaired when it was interrupted."""

from __future__ import annotations

import contextlib
import json
import os
import threading

import pytest

from tilseg.errors import ExistsError, LockedError, OutputError
from tilseg.workspace import RECEIPT, Workspace


def _ready(space: Workspace, word: str) -> None:
    space.begin({"fingerprint": {}, "plan": {}})
    (space.result / "mask").write_text(word)
    (space.result / RECEIPT).write_text(json.dumps({"fingerprint": {"word": word}}))


@pytest.fixture
def space(tmp_path):
    return Workspace(tmp_path / "slide.tilseg")


def test_publish_leaves_the_result_and_nothing_else(space, tmp_path):
    _ready(space, "new")
    assert space.unfinished() == {"fingerprint": {}, "plan": {}}
    space.publish()
    assert (space.final / "mask").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["slide.tilseg"]


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("step", range(8))
def test_interrupted_anywhere_old_or_new_is_there_whole(space, monkeypatch, step):
    _ready(space, "old")
    space.publish()
    _ready(space, "new")
    calls = 0

    def dying(real):
        def call(*arguments, **kwargs):
            nonlocal calls
            calls += 1
            if calls > step:
                raise _Killed
            return real(*arguments, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("rename", "rmdir", "unlink"):
            patch.setattr(os, name, dying(getattr(os, name)))
        patch.setattr("pathlib.os.rename", os.rename)
        with contextlib.suppress(_Killed):
            space.publish()
    space.repair()
    assert (space.final / "mask").read_text() in ("old", "new")
    assert space.receipt() is not None
    if not space.result.exists():
        assert (space.final / "mask").read_text() == "new"
    else:
        space.publish()
    space.repair()
    assert (space.final / "mask").read_text() == "new"
    assert [path.name for path in space.final.parent.iterdir()] == ["slide.tilseg"]


def test_what_tilseg_did_not_make_is_not_touched(space):
    space.final.mkdir()
    (space.final / "thesis.txt").write_text("years of work")
    with pytest.raises(ExistsError) as caught:
        space.receipt()
    assert caught.value.id == "E-EXISTS-FOREIGN"
    assert (space.final / "thesis.txt").read_text() == "years of work"


def test_one_owner_at_a_time_and_the_second_is_told_who(space):
    other = Workspace(space.final)
    with (
        space.locked(),
        pytest.raises(LockedError, match=f"process {os.getpid()} on"),
        other.locked(),
    ):
        raise AssertionError("two owners")
    with other.locked():
        pass
    assert list(space.final.parent.iterdir()) == []


def test_racing_owners_never_meet(space):
    inside = 0
    most = 0
    guard = threading.Lock()

    def contend():
        nonlocal inside, most
        for _ in range(200):
            try:
                with Workspace(space.final).locked():
                    with guard:
                        inside += 1
                        most = max(most, inside)
                    with guard:
                        inside -= 1
            except LockedError:
                pass

    threads = [threading.Thread(target=contend) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OutputError, match=r"its folder .*nowhere does not exist"):
        Workspace(tmp_path / "nowhere" / "x.tilseg").check_parent()
