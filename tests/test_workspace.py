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
    (space.result / "mask.tif").write_text(word)
    (space.result / RECEIPT).write_text(json.dumps({"fingerprint": {"word": word}}))


def _word(space: Workspace) -> str:
    """What the mask in place says, which must be what its receipt says."""
    mask = space.final / "mask.tif" if space.final.is_dir() else space.final
    receipt = space.receipt()
    assert receipt is not None
    assert receipt["fingerprint"]["word"] == mask.read_text()
    return mask.read_text()


@pytest.fixture(params=["slide.tilseg", "slide.tif"])
def space(tmp_path, request):
    return Workspace(tmp_path / request.param)


def _only_the_result_is_there(space: Workspace) -> bool:
    names = {space.final.name} | ({f"{space.final.name}.json"} if space.single else set())
    return {path.name for path in space.final.parent.iterdir()} == names


def test_publish_leaves_the_result_and_nothing_else(space):
    _ready(space, "new")
    assert space.unfinished() == {"fingerprint": {}, "plan": {}}
    space.publish()
    assert _word(space) == "new"
    assert _only_the_result_is_there(space)


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
        for name in ("rename", "replace", "rmdir", "unlink"):
            patch.setattr(os, name, dying(getattr(os, name)))
        with contextlib.suppress(_Killed):
            space.publish()
    space.repair()
    assert _word(space) in ("old", "new")
    if _word(space) == "old":
        space.publish()
    space.repair()
    assert _word(space) == "new"
    assert _only_the_result_is_there(space)


def test_what_tilseg_did_not_make_is_not_touched(space):
    thesis = space.final if space.single else space.final / "thesis.txt"
    thesis.parent.mkdir(exist_ok=True)
    thesis.write_text("years of work")
    with pytest.raises(ExistsError) as caught:
        space.receipt()
    assert caught.value.id == "E-EXISTS-FOREIGN"
    assert thesis.read_text() == "years of work"


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
