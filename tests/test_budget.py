"""The memory that may be taken, by every limit a system can set."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from tilseg.budget import available_memory

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
