"""One driver for one output: a file that says whose it is, and how a dead owner is told.

Three things tell whether the owner named in the file lives:

- `flock`: the kernel drops it with its holder, however that dies. Between processes of one
  kernel (one boot id) it alone decides.
- The file's time of change, which an owner renews twice a minute. It decides about owners on
  other machines, for on network disks `flock` may not reach them: five minutes of silence, by
  the clock of the disk, and the owner is dead.
- SLURM: a job has one life at a time, so an owner of the same job with a lower restart count
  has lost the output, even where a machine that SLURM cannot reach still runs it.

A wrong verdict (a machine that slept for an hour, `--break-lock`) does no harm to the result:
blocks are the same bytes whoever writes them, and an owner looks whether the file still names
it before every line of the journal and before it publishes.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from tilseg.durable import writing
from tilseg.errors import LockedError

_BEAT_SECONDS = 30.0
_DEAD_SECONDS = 10 * _BEAT_SECONDS
_LOOK_SECONDS = 0.1

# What flock says where a disk does not have it.
_NO_FLOCK = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds a lock. kernel: boot id of its machine. job, restart: SLURM's, or "" and 0."""

    token: str
    host: str
    kernel: str
    pid: int
    started: str
    job: str
    restart: int

    def __str__(self) -> str:
        job = f", SLURM job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host} since {self.started}{job}"


def this_process() -> Owner:
    """This process as an owner, with a new token."""
    return Owner(
        token=uuid.uuid4().hex,
        host=socket.gethostname(),
        kernel=_kernel(),
        pid=os.getpid(),
        started=time.strftime("%Y-%m-%d %H:%M:%S"),
        job=os.environ.get("SLURM_JOB_ID", ""),
        restart=int(os.environ.get("SLURM_RESTART_COUNT", "") or 0),
    )


def _kernel() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


class Lock:
    """The lock of one output, in the file `path`; errors name the `output`."""

    def __init__(self, path: Path, output: Path) -> None:
        self.path = path
        self.output = output
        self._mine: Owner | None = None

    @contextmanager
    def held(self, *, take_over: bool = False, wait: float = 0.0) -> Iterator[None]:
        """Own the output; with `take_over`, also where another owner seems alive.

        wait: seconds to wait for another owner to let go.

        Raises LockedError E-LOCKED naming the owner, OutputError E-OUTPUT-WRITE.
        """
        with self._wait(take_over, wait) as file:
            mine = this_process()
            with writing(self.path):
                file.truncate(0)
                content = json.dumps(asdict(mine)).encode()
                if file.write(content) != len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            self._mine = mine
            done = threading.Event()
            heart = threading.Thread(target=_beat, args=(file.fileno(), done), daemon=True)
            heart.start()
            try:
                yield
            finally:
                done.set()
                heart.join()
                if self.is_mine():
                    self.path.unlink(missing_ok=True)
                self._mine = None

    def is_mine(self) -> bool:
        """Whether the file still names this owner."""
        return self._mine is not None and _read(self.path) == self._mine

    def check(self) -> None:
        """Raises LockedError E-LOCK-LOST when another owner has taken over."""
        if not self.is_mine():
            raise LockedError("E-LOCK-LOST", path=self.output, owner=_read(self.path) or "unknown")

    def _wait(self, take_over: bool, seconds: float) -> IO[bytes]:
        end = time.monotonic() + seconds
        while True:
            try:
                return self._take(take_over)
            except LockedError:
                if time.monotonic() > end:
                    raise
            time.sleep(_LOOK_SECONDS)

    def _take(self, take_over: bool) -> IO[bytes]:
        """The open lock file, locked, and free of living owners."""
        while True:
            with writing(self.path):
                # Unbuffered: what the disk refused must not be refused again on closing.
                file = self.path.open("ab", buffering=0)
            try:
                free = self._is_free(file)
                # Its last owner may have removed the file between our open and our lock; a
                # lock on a removed file guards nothing.
                if free and _same_file(file, self.path):
                    return file
                if not free and (take_over or _is_earlier_life(_read(self.path))):
                    self.path.unlink(missing_ok=True)
                elif not free:
                    raise LockedError("E-LOCKED", path=self.output, owner=self._owner())
            except BaseException:
                file.close()
                raise
            file.close()

    def _owner(self) -> Owner | str:
        """Who holds the lock; it may be about to write it down."""
        for _ in range(20):
            owner = _read(self.path)
            if owner is not None:
                return owner
            time.sleep(0.05)
        return "unknown"

    def _is_free(self, file: IO[bytes]) -> bool:
        reaches = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                return False
            with writing(self.path):
                if error.errno not in _NO_FLOCK:
                    raise
            reaches = False
        owner = _read(self.path)
        if owner is None:
            return True
        if reaches and owner.kernel == _kernel():
            return True
        return self._silence() > _DEAD_SECONDS

    def _silence(self) -> float:
        """Seconds since the owner's last heartbeat, by the clock of the disk."""
        probe = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}")
        with writing(probe):
            probe.touch()
            try:
                return probe.stat().st_mtime - self.path.stat().st_mtime
            except FileNotFoundError:
                # Its owner let go just now; the lock on the removed file is refused later.
                return math.inf
            finally:
                probe.unlink()


def _beat(handle: int, done: threading.Event) -> None:
    while not done.wait(_BEAT_SECONDS):
        try:
            os.utime(handle)
        except OSError:
            # The file or its disk is gone; the owner finds out when it next looks at the lock.
            return


def _is_earlier_life(owner: Owner | None) -> bool:
    """Whether the owner is this SLURM job before it was put back into the queue."""
    mine = this_process()
    return owner is not None and owner.job == mine.job != "" and owner.restart < mine.restart


def _same_file(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _read(path: Path) -> Owner | None:
    """The owner a lock file names; None where it names none, or is being written."""
    try:
        return Owner(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
