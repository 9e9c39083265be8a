"""A real SLURM of two nodes on this machine, in a folder of its own, for as long as tests need it.

Debian's slurmd is built for several on one host. Nothing here is a service: the daemons are children
of the test, with their own configuration, key, socket and ports.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

PIPELINES = Path(__file__).parents[1] / "pipelines/cluster"
# What each node has room for, twice.
SMALL = ("--cpus-per-task=1", "--mem=1900M")
# Of the model and images that `desk` makes; small tiles, so that a run has a middle.
RUN = ("--model", "tiny.safetensors", "--tile", "64", "--threads", "1")

NODES = ("n1", "n2")
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


def until(met: Callable[[], object], what: str, seconds: float = 120) -> None:
    """Wait for what others do; fails with `what` when it does not come."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        time.sleep(0.1)


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

    def start(self) -> None:
        """Both nodes idle."""
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
        until((munge / "sock").exists, "munge")
        self._daemon("slurmctld", "-D", "-c")
        for node in NODES:
            self._start_node(node)
        until(lambda: self._idle() == set(NODES), "two idle nodes", 30)

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
        with (self.folder / f"{name}.log").open("ab") as log:
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
        until(lambda: self._idle() == set(NODES), "two idle nodes", 60)

    def kill_daemon(self, node: str) -> None:
        """Kill a node's slurmd alone: its jobs go on, and the controller does not know."""
        daemon = self._daemons.pop(f"slurmd-{node}")
        daemon.kill()
        daemon.wait()

    def kill_node(self, node: str) -> None:
        """Kill all that runs on a node, as a power cut does."""
        theirs = [
            process
            for process in self._processes()
            if process.environ().get("SLURMD_NODENAME") == node
        ]
        stepds = [parent for process in theirs for parent in process.parents() if _is_stepd(parent)]
        self.kill_daemon(node)
        for process in {*stepds, *theirs}:
            _kill(process)

    def _idle(self) -> set[str]:
        return set(self.user("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split())

    def user(self, *command: str | Path, cwd: Path | None = None) -> str:
        """Run a command as a user does; returns its output."""
        done = subprocess.run(
            list(map(str, command)),
            env=self.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def submit(self, *arguments: str | Path, cwd: Path) -> str:
        """sbatch; returns the number of the job."""
        return self.user("sbatch", "--parsable", *arguments, cwd=cwd).strip()

    def state(self, job: str) -> str:
        """The states of a job's tasks as squeue shows them; "" when it is over."""
        shown = self.user("squeue", "-h", "-t", "all", "-o", "%i %T %N")
        ours = [line.split() for line in shown.splitlines()]
        going = [words[1:] for words in ours if words[0].split("_")[0] == job]
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
        return " ".join(":".join(words) for words in going if words[0] not in over)

    def wait(self, job: str, seconds: float = 120) -> None:
        """Until no task of a job waits or runs."""
        until(lambda: not self.state(job), f"the end of job {job} ({self.state(job)})", seconds)

    def jobs(self) -> set[str]:
        """Names of the jobs that wait or run."""
        return set(self.user("squeue", "-h", "-o", "%j").split())

    def running(self, node: str, program: str = "tilseg") -> list[psutil.Process]:
        """Processes of jobs on a node whose command has `program` for its name."""
        found = []
        for process in self._processes():
            words = process.cmdline()[:2]
            here = process.environ().get("SLURMD_NODENAME") == node
            if here and program in [Path(word).name for word in words]:
                found.append(process)
        return found

    def _processes(self) -> list[psutil.Process]:
        """All that belongs to this site by its environment, daemons and steps included."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("SLURM_CONF") == str(self.configuration):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def stop(self) -> None:
        """End the jobs, then the daemons, munge last; remove the folder."""
        try:
            subprocess.run(
                ["scancel", "--user", getpass.getuser()],
                env=self.environment,
                timeout=20,
                check=False,
            )
            until(lambda: not self.jobs(), "the end of all jobs", 20)
        finally:
            for name in sorted(self._daemons, key=lambda name: name == "munged"):
                self._daemons[name].kill()
                self._daemons[name].wait()
            for process in self._processes():
                _kill(process)
            shutil.rmtree(self.folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _is_stepd(process: psutil.Process) -> bool:
    return process.name() == "slurmstepd"


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
        process.wait(10)
    except psutil.NoSuchProcess:
        return
