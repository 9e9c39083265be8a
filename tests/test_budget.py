"""The memory and the CPUs that may be taken, by every limit a system can set."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from tilseg.budget import available_memory, usable_cpus

RAM = psutil.virtual_memory().total
MB = 2**20


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch):
    for name in os.environ:
        if name.startswith("SLURM"):
            monkeypatch.delenv(name)


def system(root: Path, cgroup: str, limits: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in limits.items():
        file = root / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


def test_without_limits_it_is_four_fifths_of_the_ram(tmp_path):
    assert available_memory(tmp_path) == pytest.approx(0.8 * RAM, rel=0.01)
    assert 0 < available_memory() <= 0.8 * RAM + 1


@pytest.mark.parametrize(
    ("cgroup", "limits", "expected"),
    [
        ("0::/\n", {"memory.max": str(100 * MB)}, 100),
        ("0::/job\n", {"job/memory.max": str(100 * MB)}, 100),
        ("0::/a/b/c\n", {"a/memory.max": str(90 * MB), "a/b/c/memory.max": "max"}, 90),
        ("0::/a/b\n", {"a/memory.max": str(90 * MB), "a/b/memory.max": str(80 * MB)}, 80),
        ("0::/not/here\n", {"memory.max": str(70 * MB)}, 70),
        ("0::/../../elsewhere\n", {"memory.max": str(60 * MB)}, 60),
        ("4:memory:/x/y\n3:cpu:/\n", {"memory/x/y/memory.limit_in_bytes": str(50 * MB)}, 50),
        ("7:cpu,memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": str(40 * MB)}, 40),
        ("4:memory:/x/y\n", {"memory/x/memory.limit_in_bytes": str(30 * MB)}, 30),
    ],
)
def test_the_smallest_limit_of_our_cgroups_counts(tmp_path, cgroup, limits, expected):
    found = available_memory(system(tmp_path, cgroup, limits))
    assert found == int(expected * MB * 0.8)


def test_the_unlimited_are_no_limit(tmp_path):
    limits = {"memory/memory.limit_in_bytes": str(2**63 - 4096), "memory.max": "max"}
    found = available_memory(system(tmp_path, "4:memory:/\n0::/\n", limits))
    assert found == available_memory(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_MEM_PER_NODE": "100"}, 100),
        ({"SLURM_MEM_PER_NODE": "0"}, None),
        ({"SLURM_MEM_PER_CPU": "20", "SLURM_CPUS_ON_NODE": "4"}, 80),
        ({"SLURM_MEM_PER_CPU": "20"}, 20),
        ({"SLURM_MEM_PER_GPU": "50", "SLURM_GPUS_ON_NODE": "2"}, 100),
        ({"SLURM_MEM_PER_NODE": "200", "SLURM_MEM_PER_CPU": "10", "SLURM_CPUS_ON_NODE": "8"}, 80),
    ],
)
def test_what_slurm_allots_counts(tmp_path, monkeypatch, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if expected is None:
        assert available_memory(tmp_path) == pytest.approx(0.8 * RAM, rel=0.01)
    else:
        assert available_memory(tmp_path) == int(expected * MB * 0.8)


BOUND = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cgroup", "limits", "expected"),
    [
        ("0::/\n", {"cpu.max": "300000 100000"}, 3),
        ("0::/job\n", {"job/cpu.max": "190000 100000"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2),
        ("0::/job\n", {"job/cpu.max": "20000 100000"}, 1),
        ("0::/job\n", {"job/cpu.max": "max 100000"}, 64),
        (
            "5:cpu,cpuacct:/x\n4:memory:/y\n0::/\n",
            {"cpu/x/cpu.cfs_quota_us": "500000", "cpu/x/cpu.cfs_period_us": "100000"},
            5,
        ),
        (
            "5:cpuacct,cpu:/x\n",
            {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"},
            64,
        ),
        ("5:cpuset:/x\n", {"cpuset/x/cpu.cfs_quota_us": "100000"}, 64),
    ],
)
def test_the_smallest_quota_of_our_cgroups_counts(tmp_path, monkeypatch, cgroup, limits, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert usable_cpus(system(tmp_path, cgroup, limits)) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 64),
        ({"SLURM_CPUS_ON_NODE": "16"}, 16),
        ({"SLURM_CPUS_ON_NODE": "16", "SLURM_CPUS_PER_TASK": "4"}, 4),
        ({"SLURM_CPUS_ON_NODE": "128"}, 64),
    ],
)
def test_what_slurm_allots_counts_where_it_binds_nobody(
    tmp_path, monkeypatch, environment, expected
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert usable_cpus(tmp_path) == expected


def test_without_limits_all_cpus_that_we_are_bound_to_count(tmp_path):
    assert usable_cpus(tmp_path) == BOUND
