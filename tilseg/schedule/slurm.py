"""Workers that are jobs of SLURM, through dask-jobqueue.

https://jobqueue.dask.org
"""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Security
from distributed.deploy.adaptive import Adaptive

from tilseg import heap
from tilseg.budget import SHARE_OF_MEMORY, parse_memory
from tilseg.errors import ResourceError

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster

# A worker leaves before SLURM ends its job: what it has in hand goes to others, and its end counts
# as nobody's fault.
_LEAVE_SECONDS = 120
_LEAVE_SHARE = 0.8
_ASK_SECONDS = 60
# Queues can be long; a job that begins when the run is over ends by itself.
_NO_SCHEDULER_SECONDS = 60


@dataclass(frozen=True, slots=True)
class SlurmJobs:
    """What each worker's job asks of SLURM, and how many there are.

    jobs: at most. cpus, memory ("16GB"), walltime (seconds): of each. queue, account: those that
    sbatch calls partition and account. interface: network that the workers reach the driver by,
    such as "ib0". directives: more options of sbatch, such as "--gres=gpu:1". prologue: lines of
    shell before the worker, such as "module load cuda".
    """

    jobs: int
    cpus: int
    memory: str
    walltime: float = 3600.0
    queue: str | None = None
    account: str | None = None
    interface: str | None = None
    directives: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()

    @property
    def usable_memory(self) -> int:
        """Bytes that a worker may plan with."""
        return int(parse_memory(self.memory) * SHARE_OF_MEMORY)

    @property
    def lifetime(self) -> float:
        """Seconds after which a worker leaves of itself."""
        return max(self.walltime - _LEAVE_SECONDS, self.walltime * _LEAVE_SHARE)


class _AsManyAsBlocks(Adaptive):  # type: ignore[misc]  # distributed is not typed
    """All jobs until there is no work for their threads; near the end one more than there is."""

    def __init__(self, cluster: Any, *, threads: int, **options: Any) -> None:
        self._threads_each = threads
        super().__init__(cluster, **options)

    async def target(self) -> int:
        """The jobs that there should be; one that died is missed, and asked for again."""
        scheduler = self.cluster.scheduler
        threads = sum(worker.nthreads for worker in scheduler.workers.values())
        in_hand = len(scheduler.tasks)
        if in_hand >= threads or not in_hand:
            return int(self.maximum)
        return math.ceil(in_hand / self._threads_each) + 1


@contextmanager
def slurm_cluster(asked: SlurmJobs, threads: int, folder: str) -> Iterator[SLURMCluster]:
    """A Dask scheduler in this process, and workers of `threads` that SLURM starts when it can.

    folder: for their logs, and for the key by which driver and workers know each other; on a disk
        that they share.

    Raises ResourceError E-CLUSTER where there is no sbatch or it refuses such jobs, and
    E-CLUSTER-EXTRA without dask-jobqueue.
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise ResourceError("E-CLUSTER-EXTRA") from None
    cluster = SLURMCluster(
        **_options(asked, threads, folder),
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
        security=_security(Path(folder)),
        silence_logs="critical",
    )
    with cluster:
        _check(cluster.job_script())
        cluster.adapt(_AsManyAsBlocks, maximum_jobs=asked.jobs, threads=threads, wait_count=15)
        yield cluster


def _security(folder: Path) -> Security:
    """Encryption with a key of this run, which only who may read `folder` has.

    Whoever can speak to a Dask scheduler can run code in the name of its user.
    """
    made = Security.temporary().get_tls_config_for_role("scheduler")
    cert, key = folder / "workers.crt", folder / "workers.key"
    for path, content in ((cert, made["cert"]), (key, made["key"])):
        path.touch(mode=0o600)
        path.write_text(content)
    roles = ("scheduler", "worker", "client")
    return Security(
        require_encryption=True,
        tls_ca_file=str(cert),
        **{f"tls_{role}_cert": str(cert) for role in roles},
        **{f"tls_{role}_key": str(key) for role in roles},
    )


def _options(asked: SlurmJobs, threads: int, folder: str) -> dict[str, Any]:
    seconds = round(asked.walltime)
    return {
        "job_name": "tilseg-worker",
        # Threads read and write beside the network, so there are more of them than CPUs.
        "cores": threads,
        "job_cpu": asked.cpus,
        "memory": asked.memory,
        "processes": 1,
        "walltime": f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}",
        "queue": asked.queue,
        "account": asked.account,
        "interface": asked.interface,
        "log_directory": folder,
        "death_timeout": _NO_SCHEDULER_SECONDS,
        "job_extra_directives": list(asked.directives),
        "job_script_prologue": [
            *(f"export {name}={value}" for name, value in heap.ENVIRONMENT.items()),
            *asked.prologue,
        ],
        # Memory is bounded by the plan; Dask's own limit would pause a worker for ever.
        "worker_extra_args": [
            *("--memory-limit", "0", "--no-dashboard"),
            *("--lifetime", f"{asked.lifetime:.0f}s"),
        ],
    }


def _check(script: str) -> None:
    """Raises ResourceError E-CLUSTER with SLURM's words where it would not take the job."""
    if shutil.which("sbatch") is None:
        raise ResourceError("E-CLUSTER", reason="there is no sbatch on this machine")
    asked = subprocess.run(
        ["sbatch", "--test-only"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        timeout=_ASK_SECONDS,
    )
    if asked.returncode != 0:
        words = asked.stderr.strip().splitlines() or ["it does not say why"]
        reason = f"SLURM refuses the jobs of workers ({words[-1].removeprefix('sbatch: error: ')})"
        raise ResourceError("E-CLUSTER", reason=reason)
