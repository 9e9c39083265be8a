"""One job anywhere: an external Dask scheduler gives the bytes of the in-process run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tifffile
from tiny import TILSEG, noise, save_tiny_model, tilseg, tree

DASK = str(Path(sys.executable).parent / "dask")
# Small tiles, so that there is a middle in which to kill a worker.
RUN = ("run", "image.tif", "--model", "tiny.safetensors", "--tile", "64", "--threads", "1")


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    save_tiny_model(folder / "tiny.safetensors", classes=3)
    tifffile.imwrite(folder / "image.tif", noise(1511, 1307), tile=(128, 128), photometric="rgb")
    tilseg(*RUN, "-o", "here.tilseg", cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def scheduler(desk):
    file = desk / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": desk}
    processes = [
        subprocess.Popen(
            [
                DASK,
                "scheduler",
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--no-dashboard",
                "--scheduler-file",
                str(file),
            ],
            **quiet,
        )
    ]
    while not file.exists():
        time.sleep(0.05)
    processes += [
        subprocess.Popen(
            [
                DASK,
                "worker",
                "--scheduler-file",
                str(file),
                "--nthreads",
                "2",
                "--no-nanny",
                "--no-dashboard",
                "--name",
                name,
            ],
            **quiet,
        )
        for name in ("one", "two")
    ]
    yield file, processes
    for process in processes:
        process.kill()
        process.wait()


def _committed(desk: Path, output: str) -> int:
    journal = desk / f".{output}.partial" / "journal-0.jsonl"
    return journal.read_bytes().count(b'"crcs"') if journal.exists() else 0


def test_two_workers_elsewhere_give_the_same_bytes(desk, scheduler):
    file, _ = scheduler
    done = tilseg(*RUN, "--scheduler", file, "-o", "there.tilseg", cwd=desk)
    assert done.returncode == 0, done.stderr
    assert tree(desk / "there.tilseg") == tree(desk / "here.tilseg")


def _in_its_middle(desk: Path, scheduler: Path, output: str) -> subprocess.Popen[str]:
    """A run on the scheduler of which some blocks are there."""
    running = subprocess.Popen(
        [TILSEG, *RUN, "--scheduler", str(scheduler), "-o", output],
        cwd=desk,
        stderr=subprocess.PIPE,
        text=True,
    )
    while running.poll() is None and _committed(desk, output) < 3:
        time.sleep(0.01)
    assert running.poll() is None, "it was over before anything could happen to a worker"
    return running


def test_a_worker_that_hangs_is_not_waited_for(desk, scheduler):
    """Its blocks are computed by the other; when it goes on, it can do no harm."""
    file, (_, _, hangs) = scheduler
    running = _in_its_middle(desk, file, "hung.tilseg")
    hangs.send_signal(signal.SIGSTOP)
    try:
        _, stderr = running.communicate(timeout=240)
    finally:
        # Or the tests after it wait for it too.
        hangs.send_signal(signal.SIGCONT)
    assert running.returncode == 0, stderr
    assert "Traceback" not in stderr
    assert tree(desk / "hung.tilseg") == tree(desk / "here.tilseg")
    again = tilseg(*RUN, "--scheduler", file, "-o", "after.tilseg", cwd=desk)
    assert again.returncode == 0, again.stderr
    assert tree(desk / "after.tilseg") == tree(desk / "here.tilseg")
    assert tree(desk / "hung.tilseg") == tree(desk / "here.tilseg")


def test_a_worker_killed_in_the_middle_loses_nothing(desk, scheduler):
    file, (_, victim, _) = scheduler
    running = _in_its_middle(desk, file, "hurt.tilseg")
    victim.kill()
    _, stderr = running.communicate()
    assert running.returncode == 0, stderr
    assert tree(desk / "hurt.tilseg") == tree(desk / "here.tilseg")


def test_a_scheduler_that_dies_ends_the_run_which_continues_elsewhere(desk, scheduler):
    """The last test that has it."""
    file, (scheduling, *_) = scheduler
    running = _in_its_middle(desk, file, "left.tilseg")
    scheduling.kill()
    _, stderr = running.communicate(timeout=100)
    assert running.returncode == 8, stderr
    assert "error[E-SCHEDULER]" in stderr or "error[E-WORKERS-DIED]" in stderr
    assert "Traceback" not in stderr
    continued = tilseg(*RUN, "-o", "left.tilseg", cwd=desk, check=True)
    assert "resuming: " in continued.stderr
    assert tree(desk / "left.tilseg") == tree(desk / "here.tilseg")


def test_a_scheduler_that_is_not_there_is_named(desk):
    refused = tilseg(*RUN, "--scheduler", "tcp://127.0.0.1:9", "-o", "none.tilseg", cwd=desk)
    assert refused.returncode == 8
    assert refused.stderr.startswith(
        "error[E-SCHEDULER]: no scheduler answers at tcp://127.0.0.1:9"
    )
    assert not list(desk.glob("*none.tilseg*"))
