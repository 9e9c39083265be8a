"""The `tilseg` command without its seconds of imports: a process that has imported everything
forks once for each command.

A child is the command in all but its start: a process and a group of its own, signals at their
defaults, killed as any other. What it is not is the console script and its interpreter's exit;
tests/e2e/test_run.py has those.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Command:
    """One command under way; `code` is its exit code, or the negative signal that killed it."""

    def __init__(self, server: Commands, pid: int, folder: Path) -> None:
        self.pid = pid
        self._server = server
        self._folder = folder

    def poll(self) -> int | None:
        return self._server.status(self.pid, 0)

    def wait(self, seconds: float = 300) -> int:
        code = self._server.status(self.pid, seconds)
        if code is None:
            self.kill()
            raise TimeoutError(f"still running after {seconds} s:\n{self.stderr}")
        return code

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal, unless the command has ended."""
        if self.poll() is None:
            # Ended, perhaps, and not told of yet.
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)

    @property
    def usage(self) -> tuple[float, float]:
        """Seconds of CPU time and megabytes at most, of an ended command."""
        return self._server.usages[self.pid]

    @property
    def stdout(self) -> str:
        return (self._folder / f"{self.pid}.out").read_text()

    @property
    def stderr(self) -> str:
        return (self._folder / f"{self.pid}.err").read_text()


class Commands:
    """Starts commands in `folder`, where their output goes too.

    preload: modules of this directory to import first, also in worker processes.
    """

    def __init__(self, folder: Path, preload: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self._logs = folder / "logs"
        self._logs.mkdir(exist_ok=True)
        self._statuses: dict[int, int] = {}
        self.usages: dict[int, tuple[float, float]] = {}
        self._socket, theirs = socket.socketpair()
        environment = {**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
        if preload:
            files = [str(HERE / f"{name}.py") for name in preload]
            environment["DASK_DISTRIBUTED__WORKER__PRELOAD"] = json.dumps(files)
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno()), str(self._logs), *preload],
            pass_fds=[theirs.fileno()],
            cwd=folder,
            env=environment,
        )
        theirs.close()
        self._lines = self._socket.makefile("r")
        self._read(60)

    def __enter__(self) -> Commands:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all that still runs."""
        self._lines.close()
        self._socket.close()
        self._process.wait()

    def start(
        self,
        *arguments: object,
        limit: int | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Command:
        """Begin a command; limit: RLIMIT_FSIZE, the largest file it may write, in bytes.

        cwd, env: where, and with what more in its environment, if not as the others.
        """
        order = {
            "arguments": list(map(str, arguments)),
            "limit": limit,
            "cwd": str(cwd or self.folder),
            "env": dict(env or {}),
        }
        self._socket.sendall(json.dumps(order).encode() + b"\n")
        message = self._read(30)
        while message is None or "started" not in message:
            message = self._read(30)
        return Command(self, message["started"], self._logs)

    def run(self, *arguments: object, **options: Any) -> Command:
        """Begin a command as `start` does, and wait for its end."""
        command = self.start(*arguments, **options)
        command.wait()
        return command

    def status(self, pid: int, seconds: float) -> int | None:
        end = time.monotonic() + seconds
        while pid not in self._statuses:
            left = end - time.monotonic()
            if self._read(max(left, 0)) is None and left <= 0:
                return None
        return self._statuses[pid]

    def _read(self, seconds: float) -> dict[str, Any] | None:
        """The server's next message, or None when there is none in time."""
        # Lines are read whole and at once, so that none waits in a buffer behind select.
        if not select.select([self._socket], [], [], seconds)[0]:
            return None
        line = b""
        while not line.endswith(b"\n"):
            part = self._socket.recv(1)
            if not part:
                raise RuntimeError("the process that forks commands has died")
            line += part
        message: dict[str, Any] = json.loads(line)
        if "ended" in message:
            self._statuses[message["ended"]] = message["code"]
            self.usages[message["ended"]] = (message["seconds"], message["megabytes"])
        return message


def _serve(connection: socket.socket, logs: Path) -> None:
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _tell(connection, ready=os.getpid())
    orders = connection.makefile("rb")
    children: set[int] = set()
    while True:
        ready = select.select([connection, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 512)
        for pid in list(children):
            done, status, used = os.wait4(pid, os.WNOHANG)
            if done:
                children.discard(pid)
                seconds, megabytes = used.ru_utime + used.ru_stime, used.ru_maxrss / 1000
                code = os.waitstatus_to_exitcode(status)
                _tell(connection, ended=pid, code=code, seconds=seconds, megabytes=megabytes)
        if connection in ready:
            line = orders.readline()
            if not line:
                break
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                connection.close()
                _become(json.loads(line), logs)
            children.add(pid)
            _tell(connection, started=pid)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _tell(connection: socket.socket, **message: float) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _become(order: dict[str, Any], logs: Path) -> None:
    """Be the command, in a forked child, to the end of the process."""
    import resource

    from tilseg.cli.main import main

    os.setsid()
    for handle, suffix in ((1, "out"), (2, "err")):
        # With O_APPEND both may be one file on a disk that fills up.
        os.dup2(os.open(logs / f"{os.getpid()}.{suffix}", os.O_CREAT | os.O_RDWR), handle)
    if order["limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], resource.RLIM_INFINITY))
    os.chdir(order["cwd"])
    os.environ.update(order["env"])
    sys.argv = ["tilseg", *order["arguments"]]
    code: Any = 1
    try:
        main(order["arguments"])
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


_USED = (
    "distributed",
    "rasterio",
    "tifffile",
    "tilseg.cli.planned",
    "tilseg.cli.run",
    "tilseg.cli.terminal",
    "tilseg.cli.verify",
    "tilseg.models.network",
    "tilseg.models.unet",
    "tilseg.sinks.geotiff",
    "tilseg.sinks.ometiff",
    "tilseg.sources.geotiff",
    "tilseg.sources.tiff",
    "tilseg.verbs.run",
    "tilseg.verbs.verify",
)

if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    for name in (*_USED, *sys.argv[3:]):
        importlib.import_module(name)
    _serve(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]))
