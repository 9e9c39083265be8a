"""`--cluster slurm`: what its file says, and the job script that comes of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from dask_jobqueue import SLURMCluster

from tilseg.cli import slurm_section
from tilseg.cli.main import main
from tilseg.errors import ResourceError, UsageError
from tilseg.schedule import SlurmJobs, slurm

FULL = """\
model = "nuclei"

[slurm]
jobs = 20
cpus = 8
memory = "16GB"
walltime = "1h30m"
queue = "gpu"
account = "lab"
interface = "ib0"
directives = ["--gres=gpu:1"]
prologue = ["module load cuda"]
"""


def read(folder: Path, text: str) -> SlurmJobs:
    (folder / "job.toml").write_text(text)
    return slurm_section._read(folder / "job.toml")


def test_every_key_is_taken(tmp_path):
    jobs = read(tmp_path, FULL)
    assert jobs == SlurmJobs(
        20, 8, "16GB", 5400.0, "gpu", "lab", "ib0", ("--gres=gpu:1",), ("module load cuda",)
    )
    assert jobs.usable_memory == 12_800_000_000
    # It leaves before SLURM ends its job.
    assert jobs.lifetime == 5400 - 120


def test_a_short_job_leaves_in_time_too():
    assert SlurmJobs(1, 1, "1GB", walltime=60).lifetime == 48


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cpu = 8", "line 4: unknown key 'cpu' of [slurm] (did you mean 'cpus'?)"),
        ('cpus = "8"', "line 4: cpus of [slurm]: input should be a valid integer"),
        ("cpus = 0", "jobs, cpus and walltime are 1 at least"),
        ("", "cpus of [slurm]: field required"),
        ('cpus = 8\nwalltime = "soon"', "line 5: walltime of [slurm]: expected a time such as"),
        ('cpus = 8\nqueue = ["a"]', "line 5: queue of [slurm]: input should be a valid string"),
        ("cpus = 8\ndirectives = [1]", "directives of [slurm]: input should be a valid string"),
    ],
)
def test_what_it_can_not_say_is_refused_with_its_line(tmp_path, text, words):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, f'[slurm]\njobs = 2\nmemory = "4GB"\n{text}\n')
    assert caught.value.id == "E-CONFIG"
    assert words in caught.value.message


def test_memory_and_the_section_itself_are_checked(tmp_path):
    with pytest.raises(UsageError, match="much"):
        read(tmp_path, '[slurm]\njobs = 2\ncpus = 1\nmemory = "much"\n')
    with pytest.raises(UsageError, match="slurm is no section"):
        read(tmp_path, "slurm = 3\n")


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (["--cluster", "slurm"], "--cluster slurm needs a section [slurm] in the file of --config"),
        (["--cluster", "slurm", "--processes"], "--cluster exclude each other"),
        (["--cluster", "slurm", "--scheduler", "tcp://a:1"], "--cluster exclude each other"),
        (["--cluster", "lsf"], "'lsf' is not"),
    ],
)
def test_the_option_is_refused_in_one_line(tmp_path, capsys, order, words):
    with pytest.raises(SystemExit) as ended:
        main(["run", "image.tif", *order])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_the_job_script_asks_for_what_the_file_says(tmp_path):
    jobs = read(tmp_path, FULL.replace('interface = "ib0"\n', ""))
    cluster = SLURMCluster(
        **slurm._options(jobs, 11, str(tmp_path)),
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
        security=slurm._security(tmp_path),
    )
    with cluster:
        lines = cluster.job_script().splitlines()
    for asked in ("--cpus-per-task=8", "--mem=15G", "-t 1:30:00", "-p gpu", "-A lab"):
        assert f"#SBATCH {asked}" in lines
    assert "#SBATCH --gres=gpu:1" in lines
    assert lines.index("module load cuda") < len(lines) - 1
    (worker,) = [line for line in lines if "dask_worker" in line]
    for words in ("--nthreads 11", "--memory-limit 0", "--lifetime 5280s", "tls://"):
        assert words in worker
    key = tmp_path / "workers.key"
    assert f"--tls-key {key}" in worker
    assert key.stat().st_mode & 0o077 == 0


def test_what_is_not_installed_is_named(tmp_path, monkeypatch):
    jobs = SlurmJobs(1, 1, "1GB")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ResourceError) as caught, slurm.slurm_cluster(jobs, 1, str(tmp_path)):
        raise AssertionError("there is no sbatch")
    assert caught.value.id == "E-CLUSTER"
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(ResourceError) as caught, slurm.slurm_cluster(jobs, 1, str(tmp_path)):
        raise AssertionError("there is no dask-jobqueue")
    assert caught.value.id == "E-CLUSTER-EXTRA"
