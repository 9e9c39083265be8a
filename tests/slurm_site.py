"""A real SLURM of two nodes on this machine, in a folder of its own, for as long as tests need it.

Debian's slurmd is built for several on one host. Nothing here is a service: the daemons are children
of the test, with their own configuration, key, socket and ports.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

PIPELINES = Path(__file__).parents[1] / "pipelines/cluster"
# Seconds that anything may take.
PATIENCE = 300
# What each node has room for, twice.
SMALL = ("--cpus-per-task=1", "--mem=1900M")
# Of the model and images that `desk` makes; small tiles, so that a run has a middle.
RUN = ("--model", "tiny.safetensors", "--tile", "64", "--threads", "1")

NODES = ("n1", "n2")
# The states that a job or a task does not leave any more, after squeue(1).
_ENDS = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "TIMEOUT"),
}
_DAEMONS = ("munged", "slurmctld", "slurmd")
_SBIN = "/usr/sbin:/sbin"

_CONFIGURATION = """\
ClusterName=tilseg
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# Credentials that live for 5 s, and a scheduler that looks every 2 s: a job that is put back
# starts after 11 s instead of 145 s.
AuthInfo=socket={folder}/munge/sock,cred_expire=5
SchedulerParameters=sched_interval=2,sched_min_interval=100000,batch_sched_delay=0
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdTimeout=10
# Patience with a machine that is busy, and with tests that ask for a job later.
MessageTimeout=60
BatchStartTimeout=60
MinJobAge=3600
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=2
JobRequeue=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/finished
SlurmdParameters=config_overrides
{nodes}
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=1-0 State=UP
"""


def missing() -> list[str]:
    """Programs of SLURM that are not installed."""
    path = f"{os.environ['PATH']}:{_SBIN}"
    return [name for name in (*_DAEMONS, "sbatch") if shutil.which(name, path=path) is None]


def until(met: Callable[[], object], what: str | Callable[[], str]) -> None:
    """Wait for what others do, on a machine that may be busy; fails with `what` if it never comes."""
    end = time.monotonic() + PATIENCE
    while not met():
        if time.monotonic() > end:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"{told} did not come within {PATIENCE} s")
        time.sleep(0.05)


class Site:
    """The daemons, and the commands of a user. environment: what a user's shell has."""

    def __init__(self) -> None:
        # Short: the path of a socket has 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.configuration = self.folder / "slurm.conf"
        self.environment = {
            **{name: value for name, value in os.environ.items() if "SLURM" not in name},
            "SLURM_CONF": str(self.configuration),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:{_SBIN}",
            "COLUMNS": "100",
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._folders: dict[str, Path] = {}

    def start(self) -> None:
        """Both nodes idle, after a first job. Raises OSError, AssertionError, SubprocessError."""
        self.folder.chmod(0o755)
        for name in ("munge", "state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        (self.folder / "munge").chmod(0o711)
        self._configure()
        munge = self.folder / "munge"
        key = munge / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        places = {"key-file": key, "socket": munge / "sock", "pid-file": munge / "pid"}
        places |= {"log-file": munge / "log", "seed-file": munge / "seed"}
        self._daemon(
            "munged", "--foreground", *(f"--{name}={path}" for name, path in places.items())
        )
        self._until_there((munge / "sock").exists, "the socket of munge")
        self._daemon("slurmctld", "-D", "-c")
        self._until_there(lambda: self._run("scontrol", "ping").returncode == 0, "slurmctld")
        for node in NODES:
            self._start_node(node)
        self._until_idle()
        # A sandbox may let the daemons start and forbid what a job needs.
        self.end(self.submit("--wrap=true", cwd=self.folder))

    def _until_there(self, met: Callable[[], object], what: str) -> None:
        """Wait for something of the daemons, which must all go on meanwhile."""

        def dead() -> list[str]:
            return [name for name, daemon in self._daemons.items() if daemon.poll() is not None]

        until(lambda: dead() or met(), lambda: f"{what} ({self._last_words(self._daemons)})")
        if ended := dead():
            raise AssertionError(f"{ended[0]} ends by itself ({self._last_words(ended)})")

    def _until_idle(self) -> None:
        self._until_there(lambda: self._idle() == set(NODES), "two idle nodes")

    def _last_words(self, daemons: Iterable[str]) -> str:
        logs = {name: self._log(name).read_text(errors="replace") for name in daemons}
        return "; ".join(f"{name}: {(log.splitlines() or [''])[-1]}" for name, log in logs.items())

    def _log(self, daemon: str) -> Path:
        return self.folder / f"{daemon}.log"

    def _configure(self) -> None:
        ports = _free_ports(1 + len(NODES))
        host = socket.gethostname().split(".")[0]
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2"
            " RealMemory=4000 State=UNKNOWN"
            for node, port in zip(NODES, ports[1:], strict=True)
        )
        self.configuration.write_text(
            _CONFIGURATION.format(
                host=host, port=ports[0], user=getpass.getuser(), folder=self.folder, nodes=nodes
            )
        )

    def _daemon(self, program: str, *arguments: str, name: str = "") -> None:
        name = name or program
        with self._log(name).open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                [program, *arguments],
                env=self.environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def _start_node(self, node: str) -> None:
        """Start a node's slurmd, for the first time or again."""
        self._daemon("slurmd", "-D", "-N", node, name=f"slurmd-{node}")

    def revive(self) -> None:
        """Start the nodes that were killed, and wait for all to be idle."""
        for node in NODES:
            if f"slurmd-{node}" not in self._daemons:
                self._start_node(node)
        self._until_idle()

    def kill_daemon(self, node: str) -> None:
        """Kill a node's slurmd alone: its jobs go on, and the controller does not know."""
        daemon = self._daemons.pop(f"slurmd-{node}")
        daemon.kill()
        daemon.wait()

    def kill_node(self, node: str) -> None:
        """Kill all that runs on a node, as a power cut does."""
        self.kill_daemon(node)
        _kill(self._processes(node))

    def _idle(self) -> set[str]:
        return set(self.user("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split())

    def user(self, *command: str | Path, cwd: Path | None = None) -> str:
        """Run a command as a user does; returns its output."""
        done = self._run(*command, cwd=cwd)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def _run(
        self, *command: str | Path, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(map(str, command)),
            env=self.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

    def submit(self, *arguments: str | Path, cwd: Path) -> str:
        """sbatch; returns the number of the job."""
        job = self.user("sbatch", "--parsable", *arguments, cwd=cwd).strip()
        self._folders[job] = cwd
        return job

    def log(self, job: str) -> str:
        """All that a job and its tasks have said."""
        logs = sorted(self._folders[job].glob(f"slurm-{job}[._]*"))
        return "\n".join(log.read_text() for log in logs)

    def states(self, job: str) -> set[str]:
        """The states of a job's tasks, such as PENDING of one that was put back into the queue."""
        shown = self.user("squeue", "-h", "-t", "all", "-o", "%i %T").splitlines()
        listed = [line.split() for line in shown]
        return {state for name, state in listed if name.split("_")[0] == job}

    def is_over(self, job: str) -> bool:
        """Whether no task of a job waits, runs or will run again."""
        return self.states(job) <= _ENDS

    def end(self, job: str) -> None:
        """Until a job is over; fails where it has not ended well."""
        until(lambda: self.is_over(job), lambda: f"the end of job {job}, {self.states(job)},")
        assert self.states(job) == {"COMPLETED"}, self.log(job)

    def jobs(self) -> set[str]:
        """Names of the jobs that wait or run."""
        return set(self.user("squeue", "-h", "-o", "%j").split())

    def running(self, node: str, program: str = "tilseg") -> list[psutil.Process]:
        """Processes of jobs on a node whose command has `program` for its name."""
        found = []
        for process in self._processes(node):
            with contextlib.suppress(psutil.Error):
                if program in [Path(word).name for word in process.cmdline()[:2]]:
                    found.append(process)
        return found

    def _processes(self, node: str | None = None) -> list[psutil.Process]:
        """All that belongs to this site by its environment, or to the jobs on a node of it."""
        wanted = {"SLURM_CONF": str(self.configuration)}
        wanted |= {} if node is None else {"SLURMD_NODENAME": node}
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if wanted.items() <= process.environ().items():
                    found.append(process)
        return found

    def stop(self) -> None:
        """Kill the daemons, then what they leave; remove the folder."""
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.wait()
        while left := self._processes():
            _kill(left)
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _kill(processes: Iterable[psutil.Process]) -> None:
    """End processes of jobs; first their slurmstepd, which would tell the controller of it."""
    killed = [*_stepds(processes), *processes]
    for process in killed:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    until(lambda: all(map(_is_dead, killed)), f"the end of {killed}")


def _stepds(processes: Iterable[psutil.Process]) -> set[psutil.Process]:
    found = set()
    for process in processes:
        # Not by their environment: they write their title over it.
        with contextlib.suppress(psutil.NoSuchProcess):
            found.update(each for each in process.parents() if each.name() == "slurmstepd")
    return found


def _is_dead(process: psutil.Process) -> bool:
    # In a container it may be that nobody collects the dead.
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
