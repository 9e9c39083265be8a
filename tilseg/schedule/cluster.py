"""Where blocks are computed: a Dask cluster in this process, of it, of SLURM, or somebody else's."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Self

import dask
from distributed import Client, LocalCluster

from tilseg import heap, infer
from tilseg.errors import ResourceError
from tilseg.infer import Job
from tilseg.schedule.slurm import SlurmJobs, slurm_cluster
from tilseg.schedule.telling import StopAsked, leave, register, tell

_CONNECT_SECONDS = 10
_STOP_SECONDS = 0.2
_GONE_SECONDS = 2.0
# For a process to start and import what it needs, on a machine that is busy with other things.
SPAWN_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where blocks are computed.

    kind: "threads" of this process, "processes" of this machine, jobs of "slurm", or an
        "external" scheduler.
    workers: threads, or processes; an external scheduler's are its own. None for as many
        threads as the plan says, or one process.
    scheduler: its address (tcp://host:port) or the path of its file. gpus: names of CUDA
        devices, as CUDA_VISIBLE_DEVICES has them, that worker processes take in turn.
    slurm: the jobs of "slurm".
    """

    kind: Literal["threads", "processes", "slurm", "external"] = "threads"
    workers: int | None = None
    scheduler: str | None = None
    gpus: tuple[str, ...] = ()
    slurm: SlurmJobs | None = None

    @property
    def is_here(self) -> bool:
        """Whether its workers are threads or processes of this machine."""
        return self.kind in ("threads", "processes")


IN_PROCESS = Cluster()


class Workers:
    """The workers of a cluster, begun for the first job and kept for those that follow. A context.

    scratch: an empty folder that outlives them; None for one beside the results of the first job,
        which is then the only one.
    """

    def __init__(self, cluster: Cluster, scratch: str | None = None) -> None:
        self.cluster = cluster
        self._scratch = scratch
        self._opened = ExitStack()
        self._client: Any = None
        self._kill: Callable[[], None] | None = None
        self._threads = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        infer.forget_network()

    @contextmanager
    def serving(self, job: Job, stop: Callable[[], bool] = lambda: False) -> Iterator[Any]:
        """A client whose workers have all been checked against `job`.

        Raises ResourceError E-SCHEDULER when there is no scheduler, E-WORKERS-DIED when none stays
        alive, E-CLUSTER and E-CLUSTER-EXTRA as `slurm_cluster`, E-WORKER-VERSION when one has other versions, ModelError E-MODEL-CHANGED when it sees
        another model, and StopAsked once `stop` is true while they are made ready.
        """
        cluster = self.cluster
        if self._client is None or job.plan.workers != self._threads:
            self._close()
            self._open(job)
        client = self._client
        _wait_for_workers(client, cluster, stop)
        # An earlier driver that was killed may have left an image open there.
        tell(client, infer.release, job)
        with _killed_by(stop, self._kill):
            register(client, job, cluster.gpus, stop)
        try:
            yield client
        finally:
            if cluster.kind == "external" or self._scratch is not None:
                leave(client, job, keep=self._scratch is not None)

    def _open(self, job: Job) -> None:
        cluster, stack = self.cluster, self._opened
        stack.enter_context(dask.config.set(_SETTINGS))
        self._threads = job.plan.workers
        if cluster.kind == "external":
            self._client = stack.enter_context(_external(cluster.scheduler or ""))
            return
        # Beside the store, so that what a killed run leaves goes with the workspace.
        workspace = Path(job.folder).parent
        if cluster.slurm:
            shared = str(workspace)
            if self._scratch is not None:
                # Its workers outlive the workspace, and see no other machine's scratch.
                beside = TemporaryDirectory(prefix=".tilseg-workers-", dir=workspace.parent)
                shared = stack.enter_context(beside)
            jobs = slurm_cluster(cluster.slurm, job.plan.workers, shared)
            self._client = stack.enter_context(Client(stack.enter_context(jobs)))
        else:
            scratch = self._scratch or str(workspace)
            local = _local(cluster, job.plan.workers, scratch)
            self._client, self._kill = stack.enter_context(local)

    def _close(self) -> None:
        self._client = self._kill = None
        self._opened.close()


@contextmanager
def _killed_by(stop: Callable[[], bool], kill: Callable[[], None] | None) -> Iterator[None]:
    """Break off a wait for workers that import and load for seconds, by what ends them."""
    if kill is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_STOP_SECONDS):
            if stop():
                kill()
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _wait_for_workers(client: Any, cluster: Cluster, stop: Callable[[], bool]) -> None:
    external = cluster.kind == "external"
    error = ResourceError("E-WORKERS-DIED")
    if external:
        error = ResourceError("E-SCHEDULER", reason="the scheduler has no workers")
    seen = begun = time.monotonic()
    while True:
        try:
            client.wait_for_workers(1, timeout=_STOP_SECONDS)
        except TimeoutError:
            if stop():
                raise StopAsked from None
            now = time.monotonic()
            # A queue may take hours.
            if cluster.slurm or any(map(_is_worker, multiprocessing.active_children())):
                seen = now
            # A process that dies before it is a worker is not made again.
            late = now - begun > SPAWN_SECONDS and not cluster.slurm
            if late or now - seen > _CONNECT_SECONDS:
                raise error from None
        else:
            return


def _is_worker(process: Any) -> bool:
    return bool(process.name.startswith("Dask Worker"))


# Memory is bounded by the plan; Dask's own limits would pause a worker for ever. A prediction
# may hold a thread for seconds, which is not worth a warning.
_SETTINGS = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.admin.tick.limit": "1h",
    # Every wake takes a core from the network, whose other threads then wait too.
    "distributed.admin.tick.interval": "1s",
    # Which block goes where is decided by the driver.
    "distributed.scheduler.work-stealing": False,
    # Locks would guard scratch that nothing is ever written to.
    "distributed.worker.use-file-locking": False,
    # Two deaths, and a block is tried alone. An external scheduler has its own number.
    "distributed.scheduler.allowed-failures": 1,
    # A process that died comes back, however long that takes on a busy machine.
    "distributed.deploy.lost-worker-timeout": "1 day",
    "distributed.comm.timeouts.connect": f"{_CONNECT_SECONDS}s",
    # This one wakes a hundred times a second, for a page that nobody opens.
    "distributed.worker.profile.enabled": False,
    # Said before a worker process begins: once it can be asked, it has threads.
    **{
        f"distributed.nanny.pre-spawn-environ.{name}": value
        for name, value in heap.ENVIRONMENT.items()
    },
}


@contextmanager
def _local(
    cluster: Cluster, threads: int, scratch: str
) -> Iterator[tuple[Any, Callable[[], None] | None]]:
    """A client of a cluster of this machine, and what ends its worker processes."""
    settings: dict[str, Any] = {
        # None would still open port 8787, on every interface.
        "dashboard_address": "127.0.0.1:0",
        "worker_dashboard_address": "127.0.0.1:0",
        "silence_logs": logging.CRITICAL,
        "n_workers": 0,
        "local_directory": scratch,
    }
    if cluster.kind == "threads":
        settings |= {"processes": False, "protocol": "inproc://", "n_workers": 1}
        settings |= {"threads_per_worker": cluster.workers or threads}
        with LocalCluster(**settings) as local, Client(local) as client:
            yield client, None
        return
    settings |= {"processes": True, "host": "127.0.0.1", "memory_limit": 0}
    settings |= {"threads_per_worker": threads}
    with ExitStack() as stack:
        with _signals_held():
            local = stack.enter_context(LocalCluster(**settings))
        kill = partial(_kill_workers, local, set(multiprocessing.active_children()))
        stack.callback(kill)
        local.scale(cluster.workers or 1)
        yield stack.enter_context(Client(local)), kill


def _kill_workers(local: LocalCluster, others: set[Any]) -> None:
    """End the processes of a cluster at once: what they did is on the disk, and asking them to
    leave takes seconds, more where they are still starting."""
    for nanny in local.workers.values():
        # Otherwise it would make another.
        nanny.close_gracefully(reason="tilseg-end")
    for process in multiprocessing.active_children():
        if process not in others and _is_worker(process):
            process.kill()
    # The scheduler has a word to log for each, which it says unheard until it is closed.
    end = time.monotonic() + _GONE_SECONDS
    while local.scheduler.workers and time.monotonic() < end:
        time.sleep(0.01)


# What asks a run to stop. Terminals and SLURM send it to every process of the run.
_GROUP_SIGNALS = {
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
    if hasattr(signal, name)
}


@contextmanager
def _signals_held() -> Iterator[None]:
    """Threads begun inside, and every process that they begin, never see a group's signals.

    A cluster begins its workers from a thread of its own, and a signal mask is inherited: so
    workers are deaf from their first instruction on, and the driver, whose main thread hears
    again at the end, lets them finish. They die with the driver by the pipe that Dask holds.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _GROUP_SIGNALS)
    try:
        # Begun by the first process that is, it would make that thread hear two of them again.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _GROUP_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _external(scheduler: str) -> Iterator[Any]:
    is_file = not scheduler.startswith(("tcp://", "tls://", "ws://", "ucx://"))
    where = {"scheduler_file": scheduler} if is_file else {"address": scheduler}
    if is_file and not Path(scheduler).is_file():
        raise ResourceError("E-SCHEDULER", reason=f"{scheduler}: no such scheduler file")
    try:
        client = Client(**where, timeout=_CONNECT_SECONDS)
    except TypeError as error:
        # What Dask raises before it asks, where its configuration has no certificates.
        reason = f"{scheduler} speaks TLS, and Dask's configuration names no certificate for it"
        raise ResourceError("E-SCHEDULER", reason=reason) from error
    except (OSError, ValueError) as error:
        reason = f"no scheduler answers at {scheduler} ({type(error).__name__})"
        raise ResourceError("E-SCHEDULER", reason=reason) from error
    try:
        yield client
    finally:
        client.close()
