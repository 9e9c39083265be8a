"""One job anywhere: an external Dask scheduler gives the bytes of the in-process run."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import tifffile
from tiny import noise, save_tiny_model, tilseg, tree

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
    yield file, processes[1:]
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


def test_a_worker_killed_in_the_middle_loses_nothing(desk, scheduler):
    file, (victim, _) = scheduler
    running = subprocess.Popen(
        [
            str(Path(sys.executable).parent / "tilseg"),
            *RUN,
            "--scheduler",
            str(file),
            "-o",
            "hurt.tilseg",
        ],
        cwd=desk,
        stderr=subprocess.PIPE,
        text=True,
    )
    while running.poll() is None and _committed(desk, "hurt.tilseg") < 3:
        time.sleep(0.01)
    assert running.poll() is None, "it was over before a worker could be killed"
    victim.kill()
    _, stderr = running.communicate()
    assert running.returncode == 0, stderr
    assert tree(desk / "hurt.tilseg") == tree(desk / "here.tilseg")


def test_a_scheduler_that_is_not_there_is_named(desk):
    refused = tilseg(*RUN, "--scheduler", "tcp://127.0.0.1:9", "-o", "none.tilseg", cwd=desk)
    assert refused.returncode == 8
    assert refused.stderr.startswith(
        "error[E-SCHEDULER]: no scheduler answers at tcp://127.0.0.1:9"
    )
    assert not list(desk.glob("*none.tilseg*"))
