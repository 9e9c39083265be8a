"""How much memory and how many CPUs this process may take, and memory in words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tilseg.errors import UsageError

# What the operating system and other programs keep of it.
SHARE_OF_MEMORY = 0.8
# SLURM's variables in megabytes, and what each counts for.
_SLURM = {
    "SLURM_MEM_PER_NODE": None,
    "SLURM_MEM_PER_CPU": "SLURM_CPUS_ON_NODE",
    "SLURM_MEM_PER_GPU": "SLURM_GPUS_ON_NODE",
}

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_memory(text: str) -> int:
    """Bytes of "4GB", "800MB", "2GiB" or a plain number; raises UsageError E-MEMORY-SIZE."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", text, re.IGNORECASE)
    if not match or (match[3] and not match[2]):
        raise UsageError("E-MEMORY-SIZE", memory=text)
    unit = match[2].upper()
    size = float(match[1]) * (_BINARY[unit] if match[3] else _UNITS[unit])
    if not 1 <= size < 2**63:
        raise UsageError("E-MEMORY-SIZE", memory=text)
    return int(size)


def format_bytes(count: float) -> str:
    """ "1.9 GB": decimal units, two digits."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def available_memory(root: Path = Path("/")) -> int:
    """80 % of the smallest of RAM, the limits of our cgroups and SLURM's allocation, in bytes.

    root: where /proc and /sys are found.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [
        int(text)
        for group in _cgroups(root, "memory", "memory.max", "memory.limit_in_bytes")
        for text in _words(group)
        if text.isdecimal()
    ]
    return int(min([memory, *limits, *_slurm(os.environ)]) * SHARE_OF_MEMORY)


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs this process may run on: the fewest of those it is bound to, the quotas of our
    cgroups and SLURM's allocation; 1 at least.

    A site that does not bind its jobs to CPUs lets them see all of a node.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    groups = _cgroups(root, "cpu", "cpu.max", "cpu.cfs_quota_us")
    quotas = [quota for group in groups for quota in _quota(group)]
    task = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE", "")
    allotted = [int(task)] if task.isdecimal() else []
    return max(1, min([bound or 1, *quotas, *allotted]))


def _cgroups(root: Path, controller: str, name: str, name_v1: str) -> Iterator[Path]:
    """The files of this process's cgroup and of all around it, of version 1 and 2, that are
    there.

    In a container the path of our cgroup may not exist under the mount, which then begins at it:
    so the root of the mount is always asked.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        mount, file = root / "sys/fs/cgroup", name
        if controllers:
            mount, file = mount / controller, name_v1
        if controllers and controller not in controllers.split(","):
            continue
        steps = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(steps) + 1):
            limit = mount.joinpath(*steps[:depth], file)
            if limit.is_file():
                yield limit


def _quota(file: Path) -> Iterator[int]:
    """Whole CPUs of a quota: version 2 has the period beside it, version 1 in another file."""
    words = [*_words(file), *_words(file.with_name("cpu.cfs_period_us"))]
    if len(words) > 1 and words[0].isdecimal():
        yield int(words[0]) // int(words[1])


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _slurm(environment: Mapping[str, str]) -> Iterator[int]:
    for name, counted in _SLURM.items():
        size, count = environment.get(name, ""), environment.get(counted or "", "1")
        # 0 stands for all the memory of the node.
        if size.isdecimal() and int(size) and count.isdecimal():
            yield int(size) * int(count) * 2**20
