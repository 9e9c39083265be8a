"""`--cluster slurm`: workers that are jobs, and what happens when they or the driver are killed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import tifffile
from slurm_site import PATIENCE, PIPELINES, Site, until
from tiny import STEADY, TILSEG, noise, save_tiny_model, tilseg, tree

# Tiles so small that a block takes a second.
RUN = ("run", "image.tif", "--model", "tiny.safetensors", "--tile", "16", "--threads", "1")
JOBS = """\
[slurm]
jobs = 2
cpus = 1
memory = "1900MB"
walltime = "10m"
interface = "lo"
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> Path:
    """A folder with a model, an image, a file of jobs, and what one process makes of it."""
    folder = tmp_path_factory.mktemp("workers")
    save_tiny_model(folder / "tiny.safetensors", classes=3, normalization=STEADY)
    tifffile.imwrite(folder / "image.tif", noise(911, 773), tile=(64, 64), photometric="rgb")
    (folder / "jobs.toml").write_text(JOBS)
    tilseg(*RUN, "-o", "here.tilseg", cwd=folder, check=True)
    return folder


def until_it_has_begun(site: Site, desk: Path, output: str, goes_on: Callable[[], object]) -> None:
    journal = desk / f".{output}.partial/journal-0.jsonl"

    def a_block_or_the_end() -> bool:
        there = journal.exists() and b'"crcs"' in journal.read_bytes()
        return there or not goes_on()

    until(a_block_or_the_end, "the first block")


def workers(site: Site) -> list[str]:
    """The jobs of workers that run, the first one first."""
    shown = site.user("squeue", "-h", "-t", "running", "-o", "%i %j").splitlines()
    return sorted((line.split()[0] for line in shown if "tilseg-worker" in line), key=int)


def test_a_job_that_is_killed_is_replaced_and_nothing_is_lost(site, desk):
    order = ("--mem=1900M", "--cpus-per-task=1", PIPELINES / "workers.sbatch", *RUN[1:])
    job = site.submit(*order, "--config", "jobs.toml", "-o", "there.tilseg", cwd=desk)
    until_it_has_begun(site, desk, "there.tilseg", lambda: not site.is_over(job))
    assert not site.is_over(job), site.log(job)
    site.user("scancel", workers(site)[0])
    site.end(job)
    assert tree(desk / "there.tilseg") == tree(desk / "here.tilseg")
    # It leaves neither jobs nor keys behind.
    until(lambda: not site.jobs(), "the end of the workers' jobs")
    assert not list(desk.glob(".*"))


def test_workers_that_lose_their_driver_end_their_jobs(site, desk):
    running = subprocess.Popen(
        [TILSEG, *RUN, "--cluster", "slurm", "--config", "jobs.toml", "-o", "lost.tilseg"],
        cwd=desk,
        env=site.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    until_it_has_begun(site, desk, "lost.tilseg", lambda: running.poll() is None)
    assert running.poll() is None, running.communicate()
    assert workers(site)
    running.kill()
    running.communicate(timeout=PATIENCE)
    until(lambda: not site.jobs(), "the end of the workers' jobs")
    again = tilseg(*RUN, "-o", "lost.tilseg", cwd=desk)
    assert again.returncode == 0, again.stderr
    assert tree(desk / "lost.tilseg") == tree(desk / "here.tilseg")


def test_what_slurm_refuses_is_said_at_once(site, desk):
    (desk / "other.toml").write_text(f'{JOBS}queue = "nowhere"\n')
    refused = tilseg(
        *(*RUN, "--cluster", "slurm", "--config", "other.toml", "-o", "none.tilseg"),
        cwd=desk,
        env=site.environment,
    )
    assert refused.returncode == 8
    assert refused.stderr.splitlines()[-1].startswith("error[E-CLUSTER]: SLURM refuses the jobs")
    assert not list(desk.glob("*none.tilseg*"))
