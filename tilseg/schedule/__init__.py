"""Computing the blocks of a run through Dask, which is imported nowhere else."""

from tilseg.schedule.blocks import run_blocks
from tilseg.schedule.cluster import IN_PROCESS, Cluster, Workers
from tilseg.schedule.slurm import SlurmJobs

__all__ = ["IN_PROCESS", "Cluster", "SlurmJobs", "Workers", "run_blocks"]
