"""What `run` is asked for, the same for one image and for each of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from tilseg.budget import usable_cpus
from tilseg.cli.slurm_section import slurm_jobs

if TYPE_CHECKING:
    from tilseg.schedule import Cluster, SlurmJobs
    from tilseg.shard import Shard


@dataclass(frozen=True, slots=True)
class Computing:
    """Where a run computes: in threads or processes of this machine, or on other machines.

    workers: blocks under way at once; None for as many as the plan says. processes: to make here,
    None for threads. scheduler: address or file of a Dask scheduler. jobs: of SLURM.
    """

    workers: int | None = None
    processes: int | None = None
    scheduler: str | None = None
    jobs: SlurmJobs | None = None

    @property
    def sharing(self) -> int | None:
        """Processes that share the machine of the plan; None for one a GPU."""
        return 1 if self.scheduler or self.jobs else self.processes

    def planned_there(self, choices: dict[str, Any]) -> dict[str, Any]:
        """The choices of a plan, with what the machines of SLURM's jobs have."""
        if self.jobs is None:
            return choices
        memory = choices["memory"] or self.jobs.usable_memory
        return choices | {"cpus": self.jobs.cpus, "memory": memory}

    def cluster(self, device: str) -> Cluster:
        """The cluster for a plan's device; several GPUs of this machine get a process each."""
        from tilseg.models.devices import cuda_devices
        from tilseg.schedule import Cluster

        if self.jobs:
            return Cluster("slurm", slurm=self.jobs)
        if self.scheduler:
            return Cluster("external", scheduler=self.scheduler)
        gpus = cuda_devices() if device == "cuda" else ()
        if self.processes:
            return Cluster("processes", self.processes, gpus=gpus)
        if len(gpus) > 1:
            return Cluster("processes", len(gpus), gpus=gpus)
        return Cluster("threads", self.workers)


def chosen_computing(
    workers: int | None, *, processes: bool, scheduler: str | None, batch_system: str | None
) -> Computing:
    """What --workers, --processes, --scheduler and --cluster ask for."""
    if sum(map(bool, (scheduler, processes, batch_system))) > 1:
        words = "--processes, --scheduler and --cluster exclude each other; give one of them"
        raise click.UsageError(words)
    if processes:
        return Computing(processes=workers or usable_cpus())
    jobs = slurm_jobs(click.get_current_context()) if batch_system else None
    return Computing(workers, scheduler=scheduler, jobs=jobs)


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of `run` but for --output; `choices` decide plans."""

    computing: Computing
    outputs: tuple[str, ...]
    on_bad_tile: Literal["fail", "mask"]
    overwrite: bool
    break_lock: bool
    shard: Shard | None
    stop_after: float | None
    as_json: bool
    choices: dict[str, Any]
