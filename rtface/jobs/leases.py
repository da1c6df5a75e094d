"""Who works on which segment: leases in files, and the heartbeat by which another worker sees that one is gone.

A lease is a file that is made once (never replaced), with its epoch in the name: 00007-1.json, and 00007-2.json for
the worker that takes the segment over from one that is gone. A worker that was only slow loses nothing but its segment:
the first record of a segment counts, whoever wrote it.

Clocks of two machines are never compared. A worker counts its beats in a file; another one sees by its own clock how
long that number has stood still. On the same machine a lock tells at once. Who looks for the first time compares the
time of that file with the clock of the file system. A lease that cannot be read ages like a silent worker.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import re
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from rtface.concurrency.threads import start_thread
from rtface.errors import InputError, RtfaceError
from rtface.jobs.folder import JobFolder
from rtface.media.files.leftovers import process_alive
from rtface.media.files.workfile import HOST
from rtface.util.files import lock, now_in
from rtface.util.foreign import text, whole

BEAT_S = 2.0
STALE_S = 60.0
"""A worker whose beat has stood still for so long is gone."""
# The end waits for a beat in work no longer than this: a shared disk may not answer.
_LAST_BEAT_S = 2.0
_LEASE = re.compile(r"(\w+)-(\d{1,9})\.json", re.ASCII)
_WORKER = re.compile(r"[\w.-]{0,200}", re.ASCII)  # none: taken back by a farm, and free
_UNREADABLE = "unreadable-"  # in place of a worker's id, before the name of the lease


class WorkerSign:
    """The files by which a worker shows that it lives and how far it is; a context in which it beats.

    Args:
        folder: of the job.
        heartbeat_s: seconds between two beats.
        on_heartbeat: called after every beat, on the thread that beats.

    Attributes:
        id: names it in leases and in the log.
        state: figures that the next beat writes.
    """

    def __init__(
        self, folder: JobFolder, *, heartbeat_s: float = BEAT_S, on_heartbeat: Callable[[], object] | None = None
    ) -> None:
        self.id = f"{HOST}-{os.getpid()}-{secrets.token_hex(3)}"
        self.state: dict[str, Any] = {}
        self._folder, self._heartbeat_s, self._on_heartbeat = folder, heartbeat_s, on_heartbeat
        self._path, self._lock_path = folder.workers / f"{self.id}.json", folder.workers / f"{self.id}.lock"
        self._lock: BinaryIO | None = None
        self._heartbeats = 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            self._lock = os.fdopen(self._folder.open(self._lock_path, os.O_WRONLY | os.O_CREAT), "wb")
        except OSError as error:
            raise self._folder.failure(error) from error
        with contextlib.suppress(BlockingIOError):
            lock(self._lock.fileno())
        self.heartbeat()
        self._thread = start_thread("heartbeat", self._run)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(_LAST_BEAT_S)  # a beat in work would put the file back
        if self._lock is not None:
            self._lock.close()
        with contextlib.suppress(OSError):
            self._folder.unlink(self._path)
            self._folder.unlink(self._lock_path)
        self._folder.remove_empty()

    def heartbeat(self) -> None:
        """Writes the state with the next number."""
        self._heartbeats += 1
        self._folder.write(
            self._path,
            {"beat": self._heartbeats, "host": platform.node(), "tag": HOST, "pid": os.getpid(), **self.state},
            sync=False,
        )

    def _run(self) -> None:
        while not self._over.wait(self._heartbeat_s):
            with contextlib.suppress(RtfaceError):  # whoever writes a segment meets the same fault and says it
                self.heartbeat()
                if self._on_heartbeat:
                    self._on_heartbeat()
        with contextlib.suppress(OSError):
            self._folder.unlink(self._path)


class Leases:
    """The leases of a job, as one process sees them.

    Args:
        folder: of the job.
        worker: `WorkerSign.id` of the process.
        stale_s: see `STALE_S`.
        clock: seconds, of this machine.
    """

    def __init__(
        self, folder: JobFolder, worker: str, *, stale_s: float = STALE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder, self._worker, self._stale_s, self._clock = folder, worker, stale_s, clock
        self._seen: dict[str, tuple[object, float]] = {}  # a worker's last beat, and when it was new

    def all(self) -> dict[str, tuple[int, str]]:
        """Of every segment that is leased: the highest epoch, and the worker's id."""
        found: dict[str, int] = {}
        try:
            names = [path.name for path in self._folder.leases.iterdir()]
        except OSError as error:
            raise self._folder.failure(error, "cannot be read") from error
        for name in names:
            if match := _LEASE.fullmatch(name):
                found[match[1]] = max(found.get(match[1], 0), int(match[2]))
        leases: dict[str, tuple[int, str]] = {}
        for name, epoch in found.items():
            worker: object = f"{_UNREADABLE}{name}-{epoch}"
            with contextlib.suppress(InputError, TypeError, KeyError):
                value = self._folder.read(self._path(name, epoch), {"worker": text})
                if value is None:
                    continue
                worker = value["worker"]
            if not isinstance(worker, str) or not _WORKER.fullmatch(worker):
                worker = f"{_UNREADABLE}{name}-{epoch}"
            leases[name] = epoch, worker
        return leases

    def held(self) -> dict[str, tuple[int, str]]:
        """Those of `all` whose worker is there."""
        return {name: lease for name, lease in self.all().items() if self.alive(lease[1])}

    def take(self, name: str) -> int | None:
        """Takes the lease of a segment (its number as text, or "join"); its epoch, or None where another has it."""
        epoch, worker = self.all().get(name, (0, ""))
        if worker and worker != self._worker and self.alive(worker):
            return None
        lease = {"worker": self._worker, "host": platform.node(), "pid": os.getpid()}
        if not self._folder.write(self._path(name, epoch + 1), lease, new=True):
            return None
        if worker:
            self._folder.log(f"{name}: taken over from {worker}, which is gone")
        return epoch + 1

    def release(self, name: str, epoch: int) -> None:
        """Gives a lease back."""
        with contextlib.suppress(OSError):
            self._folder.unlink(self._path(name, epoch))

    def alive(self, worker: str) -> bool:
        """Whether a worker is there, as far as this process knows by now."""
        if worker == self._worker:
            return True
        if _gone(self._folder, worker):
            return False
        heartbeat: object = None
        with contextlib.suppress(InputError, TypeError, KeyError):
            value = self._folder.read(self._folder.workers / f"{worker}.json", {"beat": whole})
            heartbeat = value["beat"] if value is not None else None
        now = self._clock()
        known = self._seen.get(worker)
        if known is None:  # its file may not be seen yet on a network drive
            silent = self.silent_s(worker, now_in(self._folder.path))
            self._seen[worker] = heartbeat, now - (0.0 if silent == math.inf else silent)
        elif known[0] != heartbeat:
            self._seen[worker] = heartbeat, now
        return now - self._seen[worker][1] < self._stale_s

    def silent_s(self, worker: str, now: float) -> float:
        """Seconds since the last beat of a worker, by the times of files; infinite where it has none.

        Args:
            now: `rtface.util.files.now_in` of the job's folder.
        """
        lease = worker.removeprefix(_UNREADABLE)
        path = self._folder.workers / f"{worker}.json" if lease == worker else self._folder.leases / f"{lease}.json"
        try:
            return max(0.0, now - path.lstat().st_mtime)
        except OSError:
            return math.inf

    def _path(self, name: str, epoch: int) -> Path:
        return self._folder.leases / f"{name}-{epoch}.json"


def _gone(folder: JobFolder, worker: str) -> bool:
    """Whether a worker of this machine has certainly ended; False where that cannot be seen."""
    tag, _, rest = worker.partition("-")
    if tag != HOST:
        return False
    try:
        with os.fdopen(folder.open(folder.workers / f"{worker}.lock", os.O_RDWR), "rb+") as file:
            return lock(file.fileno()) or not process_alive(int(rest.partition("-")[0]))
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True  # made before its first lease, and removed behind the last
    except OSError:
        return not process_alive(int(rest.partition("-")[0]))
