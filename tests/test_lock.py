"""One owner at a time; dead ones are told from living ones."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import resource
import threading
from dataclasses import asdict, replace

import pytest

from tilseg import lock
from tilseg.errors import LockedError, OutputError
from tilseg.lock import Lock, Owner, this_process


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".slide.tilseg.lock"


def _lock(path) -> Lock:
    return Lock(path, path.with_name("slide.tilseg"))


def _elsewhere(**changes: object) -> Owner:
    """An owner on another machine."""
    return replace(this_process(), host="node7", kernel="another boot", **changes)


def _leave(path, owner: Owner, *, silent: float = 0) -> None:
    """What `owner` left, its last heartbeat `silent` seconds ago."""
    path.write_text(json.dumps(asdict(owner)))
    now = path.stat().st_mtime
    os.utime(path, (now - silent, now - silent))


def test_the_second_is_told_who(path):
    with (
        _lock(path).held(),
        pytest.raises(LockedError, match=f"process {os.getpid()} on .* since 2"),
        _lock(path).held(),
    ):
        raise AssertionError("two owners")
    with _lock(path).held():
        pass
    assert list(path.parent.iterdir()) == []


def test_an_owner_that_is_writing_its_name_is_waited_for(path):
    with _lock(path).held():
        name = path.read_bytes()
        path.write_bytes(b"")
        late = threading.Timer(0.1, path.write_bytes, [name])
        late.start()
        with pytest.raises(LockedError, match=f"process {os.getpid()} on"), _lock(path).held():
            raise AssertionError("two owners")
        late.join()


def test_racing_owners_never_meet(path):
    inside = most = 0
    guard = threading.Lock()

    def contend():
        nonlocal inside, most
        for _ in range(60):
            try:
                with _lock(path).held():
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


def _die_holding(path, held) -> None:
    with _lock(path).held():
        held.set()
        os._exit(9)


def test_the_lock_of_a_killed_process_is_free(path):
    context = multiprocessing.get_context("fork")
    held = context.Event()
    child = context.Process(target=_die_holding, args=(path, held))
    child.start()
    child.join()
    assert held.is_set()
    assert path.exists()
    with _lock(path).held():
        pass


def test_an_owner_elsewhere_is_believed_while_its_heart_beats(path):
    _leave(path, _elsewhere(), silent=200)
    with pytest.raises(LockedError, match="on node7"), _lock(path).held():
        raise AssertionError("two owners")
    assert json.loads(path.read_text())["host"] == "node7"
    _leave(path, _elsewhere(), silent=400)
    with _lock(path).held():
        pass


def test_the_heart_beats(path, monkeypatch):
    monkeypatch.setattr(lock, "_BEAT_SECONDS", 0.001)
    with _lock(path).held():
        os.utime(path, (0, 0))
        for _ in range(10_000):
            if path.stat().st_mtime > 0:
                break
            threading.Event().wait(0.001)
        assert path.stat().st_mtime > 0


def test_a_requeued_job_succeeds_its_earlier_life(path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    for earlier in [{"job": "4711", "restart": 2}, {"job": "4712", "restart": 1}]:
        _leave(path, _elsewhere(**earlier))
        with pytest.raises(LockedError, match=earlier["job"]), _lock(path).held():
            raise AssertionError("two owners")
    _leave(path, _elsewhere(job="4711", restart=1))
    with _lock(path).held():
        pass


def test_a_requeued_job_succeeds_an_earlier_life_that_still_runs(path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    with _lock(path).held(), pytest.raises(LockedError), _lock(path).held():
        raise AssertionError("two owners")
    first = _lock(path)
    with first.held():
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        with _lock(path).held():
            assert not first.is_mine()
        assert not path.exists()


def test_taking_over_is_noticed_by_the_one_who_lost(path):
    first, second = _lock(path), _lock(path)
    with first.held():
        first.check()
        with second.held(take_over=True):
            second.check()
            with pytest.raises(LockedError) as caught:
                first.check()
            assert caught.value.id == "E-LOCK-LOST"
            third = _lock(path)
            with pytest.raises(LockedError), third.held():
                raise AssertionError("two owners")
        assert not path.exists()
    with _lock(path).held():
        pass


def test_the_loser_does_not_remove_the_lock_of_the_winner(path):
    first, second = _lock(path), _lock(path)
    with first.held():
        winner = second.held(take_over=True)
        winner.__enter__()
    assert second.is_mine()
    winner.__exit__(None, None, None)
    assert not second.is_mine()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_without_flock_the_heart_decides(path, monkeypatch, number):
    def missing(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", missing)
    with _lock(path).held():
        with pytest.raises(LockedError), _lock(path).held():
            raise AssertionError("two owners")
        os.utime(path, (0, 0))
        with _lock(path).held():
            pass


def test_a_disk_that_refuses_the_lock_is_an_error_of_the_output(path, monkeypatch):
    def broken(file, how):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OutputError, match="Input/output error"), _lock(path).held():
        raise AssertionError("no lock")


def test_a_full_disk_refuses_the_lock_once(path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        with pytest.raises(OutputError, match="could not be written"), _lock(path).held():
            raise AssertionError("no lock")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with _lock(path).held():
        pass


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"process 12 on host", b"[1, 2]"])
def test_a_torn_lock_is_nobodys(path, content):
    path.write_bytes(content)
    with _lock(path).held():
        pass
    assert not path.exists()
