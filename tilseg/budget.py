"""How much memory this process may take."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

# What the operating system and other programs keep of it.
_OURS = 0.8
# SLURM's variables in megabytes, and what each counts for.
_SLURM = {
    "SLURM_MEM_PER_NODE": None,
    "SLURM_MEM_PER_CPU": "SLURM_CPUS_ON_NODE",
    "SLURM_MEM_PER_GPU": "SLURM_GPUS_ON_NODE",
}


def available_memory(root: Path = Path("/")) -> int:
    """80 % of the smallest of RAM, the limits of our cgroups and SLURM's allocation, in bytes.

    root: where /proc and /sys are found.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(min([memory, *_cgroups(root), *_slurm(os.environ)]) * _OURS)


def _cgroups(root: Path) -> Iterator[int]:
    """The limits of this process's cgroup and of all around it, of version 1 and 2.

    In a container the path of our cgroup may not exist under the mount, which then begins at it:
    so the root of the mount is always asked.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        mount = root / "sys/fs/cgroup"
        if not controllers:
            name = "memory.max"
        elif "memory" in controllers.split(","):
            mount, name = mount / "memory", "memory.limit_in_bytes"
        else:
            continue
        steps = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(steps) + 1):
            yield from _limit(mount.joinpath(*steps[:depth], name))


def _limit(file: Path) -> Iterator[int]:
    try:
        text = file.read_text().strip()
    except OSError:
        return
    if text.isdecimal():
        yield int(text)


def _slurm(environment: Mapping[str, str]) -> Iterator[int]:
    for name, counted in _SLURM.items():
        size, count = environment.get(name, ""), environment.get(counted or "", "1")
        # 0 stands for all the memory of the node.
        if size.isdecimal() and int(size) and count.isdecimal():
            yield int(size) * int(count) * 2**20
