"""The section [slurm] of a configuration file: what the jobs of workers ask for."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tilseg.cli.config import SLURM, line_of, read_toml, refuse
from tilseg.cli.values import A_TIME, seconds_of
from tilseg.errors import UsageError, nearest

if TYPE_CHECKING:
    from tilseg.schedule import SlurmJobs


def slurm_jobs(ctx: click.Context) -> SlurmJobs:
    """The jobs that the file of --config describes. Raises UsageError E-CONFIG, E-USAGE."""
    if SLURM not in ctx.meta:
        words = f"--cluster slurm needs a section [{SLURM}] in the file of --config"
        raise click.UsageError(f"{words}; say in it how many jobs, and cpus and memory of each")
    return _read(ctx.meta[SLURM])


def _read(path: Path) -> SlurmJobs:
    from pydantic import TypeAdapter, ValidationError

    from tilseg.budget import parse_memory
    from tilseg.schedule import SlurmJobs

    content, text = read_toml(path)
    section = content[SLURM]
    if not isinstance(section, dict):
        raise refuse(path, f"{SLURM} is no section", f"write [{SLURM}] and its keys below")
    known = [field.name for field in fields(SlurmJobs)]
    for key in section:
        if key not in known:
            reason = f"{line_of(text, key, SLURM)}unknown key {key!r} of [{SLURM}]"
            raise refuse(path, reason + nearest(key, known), f"allowed are {', '.join(known)}")
    try:
        if "walltime" in section:
            section["walltime"] = seconds_of(str(section["walltime"]))
        jobs = TypeAdapter(SlurmJobs).validate_json(json.dumps(section), strict=True)
        parse_memory(jobs.memory)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        said = f"expected {A_TIME}" if key == "walltime" else first["msg"]
        words = f"{key} of [{SLURM}]: {said[0].lower()}{said[1:]}"
        raise refuse(path, line_of(text, key, SLURM) + words) from None
    except UsageError as error:
        raise refuse(path, f"[{SLURM}]: {error.problem}", error.advice) from None
    if min(jobs.jobs, jobs.cpus, jobs.walltime) < 1:
        raise refuse(path, f"[{SLURM}]: jobs, cpus and walltime are 1 at least")
    return jobs
