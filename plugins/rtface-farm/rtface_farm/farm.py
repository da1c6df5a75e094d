"""Segments of a job on the workers of a Dask cluster.

Dask finds the workers and returns results. This module assigns segments to workers, because a task that Dask assigned
to a hanging worker would wait for minutes. Only the first result recorded for a segment counts, so that a worker
that comes back does no harm.
"""

from __future__ import annotations

import importlib
import logging
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rtface.concurrency.threads import start_thread
from rtface.errors import MissingComponent, OutputError, UsageError, log
from rtface.jobs.folder import JobFolder
from rtface.jobs.hand_out import HandOut
from rtface.jobs.plan import JobPlan
from rtface.jobs.worker import Step
from rtface.util.text import printable
from rtface_farm import task

CONNECT_S = 10.0
# A worker without a heartbeat for this long gets no segment.
SILENT_S = 15.0
END_S = 5.0
_ASSIGN_S = 1.0  # interval for polling the scheduler's workers
# A worker gets one segment for every four threads, if it has this much memory for each segment.
_THREADS_EACH, _BYTES_EACH = 4, 2 << 30
_ATTEMPTS = 3
_LOCAL = re.compile(r"localhost|127(\.\d+){3}|\[?::1\]?")


def scheduler_address(text: str) -> str:
    """Converts an address of ``--farm`` to a Dask address, such as "tcp://host:8786".

    Args:
        text: "dask+tls://host:8786", "dask://localhost:8786", or "dask+insecure://host:8786" for a scheduler that
            is neither encrypted nor on this machine.

    Raises:
        UsageError: the address has none of these forms.
    """
    match = re.fullmatch(r"dask(\+tls|\+insecure)?://([^\s/:\[\]]+|\[[0-9a-fA-F:.]+\])(?::(\d{1,5}))?/?", text)
    if match is None:
        raise UsageError(
            "--farm {address}: give the scheduler of a Dask cluster, as dask://host:8786 or dask+tls://host:8786",
            code="dask_address",
            address=text,
        )
    address = f"{'tls' if match[1] == '+tls' else 'tcp'}://{match[2]}:{match[3] or 8786}"
    if not match[1] and open_to_others(address):
        raise UsageError(
            "--farm {address}: the connection is not encrypted, and anyone who reaches a Dask scheduler can run "
            "programs on its workers; use dask+tls:// with certificates, or dask+insecure:// in a network where you "
            "trust everyone",
            code="dask_open",
            address=text,
        )
    return address


def open_to_others(address: str) -> bool:
    """Tests whether a Dask address is neither encrypted nor on this machine. Dask has no password, so anyone who
    reaches the scheduler can run programs on its workers."""
    return address.startswith("tcp:") and not _LOCAL.fullmatch(address.removeprefix("tcp://").rpartition(":")[0])


@dataclass(slots=True, eq=False)
class _Work:
    """A segment that is assigned to a worker."""

    worker: str
    number: int = -1
    future: Any = None
    lost: bool = False  # the worker hangs, and another one gets the segment


class Farm:
    """The workers of a Dask cluster for one job.

    It has the interface of `rtface.jobs.local_workers.LocalWorkers`.

    Args:
        folder: folder of the job, on a disk that all workers see under the same path.
        plan: plan of the job.
        address: address of ``--farm``; see `scheduler_address`.
        notify: called with lines for the user.

    Raises:
        MissingComponent: no scheduler answers.
    """

    def __init__(
        self,
        folder: JobFolder,
        plan: JobPlan,
        address: str,
        notify: Callable[[str], object],
    ) -> None:
        dask: Any = importlib.import_module("distributed")  # takes a second
        address = scheduler_address(address)
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # this class reports the important events
        self._folder, self._plan, self._address, self._show = folder, plan, address, notify
        try:
            self._client = dask.Client(address, timeout=CONNECT_S, set_as_default=False, name="rtface")
        except Exception as error:  # many types: no answer, no certificates, a wrong configuration
            raise MissingComponent(
                "the Dask scheduler {address} cannot be reached ({why}); start one with: dask scheduler",
                code="dask_unreachable",
                address=address,
                why=" ".join(str(error).split()),
            ) from error
        self._run, self._segments = secrets.token_hex(6), HandOut(folder, len(plan))
        self._works: list[_Work] = []
        self.steps: dict[str, Step] = {}  # worker → its last finished segment
        self._refused: dict[str, str] = {}  # worker → reason
        self._used: set[str] = set()  # workers that got a segment
        self._failed: Counter[int] = Counter()
        self._heartbeats: dict[str, tuple[object, float]] = {}
        self._changed = threading.Event()
        self._assigned_at = -_ASSIGN_S
        self._waiting_shown = False

    @staticmethod
    def check(address: str) -> None:
        """Raises UsageError unless `address` is a valid scheduler address."""
        scheduler_address(address)

    def wait(self, timeout: float) -> bool:
        """Assigns segments and waits for results. Returns whether segments are unfinished.

        Raises:
            UsageError: none of the workers can take part.
            OutputError: a segment failed repeatedly, or the scheduler no longer answers.
        """
        self._changed.wait(timeout)
        self._changed.clear()
        self._collect()
        if len(self._folder.finished()) >= len(self._plan):
            return False
        if time.monotonic() - self._assigned_at >= _ASSIGN_S:
            self._assigned_at = time.monotonic()
            self._hand_out()
        return True

    def end(self) -> None:
        """Ends the work on all workers, and the connection, within `END_S`."""

        def leave() -> None:  # a hanging worker never answers
            with suppress(Exception):
                self._client.cancel([work.future for work in self._works])
            with suppress(Exception):
                if self._used:
                    self._client.run(task.stop, self._run, workers=list(self._used), on_error="ignore")
            with suppress(Exception):
                self._client.close(timeout=1)

        start_thread("farm-end", leave).join(END_S if self._used else 2.0)

    def _collect(self) -> None:
        """Processes the finished results."""
        for work in [work for work in self._works if work.future.done()]:
            self._works.remove(work)
            self._segments.give_back(work)
            self._result(work.number, work)

    def _result(self, number: int, work: _Work) -> None:
        if work.future.cancelled():
            return
        error = work.future.exception()
        kind, why = (
            ("crashed", f"{type(error).__name__}: {' '.join(str(error).split())}") if error else work.future.result()
        )
        if isinstance(error, ImportError | AttributeError | TypeError):
            kind, why = "refused", f"its rtface differs from the one here ({why})"
        why = printable(why)
        if kind == "done":
            self._segments.finish(number)
            before = self.steps[work.worker].frames if work.worker in self.steps else 0
            frames = before + self._plan.frames[number]
            self.steps[work.worker] = Step(number, self._plan.seconds(number), 0, frames)
        if kind in ("done", "stopped"):
            return
        log.info("segment %d on %s: %s: %s", number, work.worker, kind, why)
        if kind == "refused":
            if work.worker not in self._refused:
                self._show(f"worker {work.worker} is left out: {why}")
            self._refused[work.worker] = why
            return
        self._failed[number] += 1
        if kind == "failed" or self._failed[number] >= _ATTEMPTS:
            raise OutputError(
                "{path}: segment {number} failed on {worker} ({why}); run the same command again to continue",
                code="farm_segment",
                path=self._folder.path,
                number=number,
                worker=work.worker,
                why=why,
            )

    def _hand_out(self) -> None:
        """Assigns unfinished segments to workers with free slots."""
        workers = self._workers()
        self._drop_lost(workers)
        for work in self._works:
            if not work.lost and work.worker not in workers:
                work.lost = True
                self._segments.give_back(work)
                log.info("segment %d: taken from %s, which no longer responds", work.number, work.worker)
        for address, threads, room in self._room(workers):
            for _ in range(room):
                work = _Work(address)
                number = self._segments.take(work)
                if number is None:
                    return
                self._give(work, number, threads)

    def _give(self, work: _Work, number: int, threads: int) -> None:
        work.number, work.future = (
            number,
            self._client.submit(
                task.make_segment,
                self._folder,
                self._plan,
                number,
                threads,
                self._run,
                pure=False,
                key=f"rtface-{self._run}-{number}-{secrets.token_hex(3)}",
                workers=[work.worker],
                retries=0,
            ),
        )
        self._works.append(work)
        work.future.add_done_callback(self._wake)
        self._used.add(work.worker)

    def _wake(self, future: object) -> None:
        self._changed.set()

    def _workers(self) -> dict[str, dict[str, Any]]:
        """Returns the workers with a recent heartbeat, by address."""
        try:
            workers: dict[str, dict[str, Any]] = dict(self._client.scheduler_info(n_workers=-1)["workers"])
        except Exception as error:  # Dask raises many types
            raise OutputError(
                "the Dask scheduler {address} no longer answers ({why}); finished segments are kept; run the same "
                "command again to continue",
                code="dask_lost",
                address=self._address,
                why=" ".join(str(error).split()) or type(error).__name__,
            ) from error
        now = time.monotonic()
        for address, info in workers.items():
            if (heartbeat := info.get("last_seen")) != self._heartbeats.get(address, (None, 0.0))[0]:
                self._heartbeats[address] = heartbeat, now
        return {address: info for address, info in workers.items() if now - self._heartbeats[address][1] < SILENT_S}

    def _drop_lost(self, workers: dict[str, dict[str, Any]]) -> None:
        usable = [address for address in workers if address not in self._refused]
        if workers and not usable:
            why = next(iter(self._refused.values()))
            raise UsageError(
                "no worker of {address} can take part: {why}", code="farm_no_worker", address=self._address, why=why
            )
        if not workers and not self._waiting_shown:
            self._waiting_shown = True
            self._show(f"{self._address} has no workers yet; waiting for one (dask worker {self._address})")

    def _room(self, workers: dict[str, dict[str, Any]]) -> list[tuple[str, int, int]]:
        """Lists the workers with free slots: address, threads of a segment, and number of free slots."""
        busy = Counter(work.worker for work in self._works)
        rooms: list[tuple[str, int, int]] = []
        for address, info in workers.items():
            if address in self._refused:
                continue
            threads = max(1, int(info.get("nthreads") or 1))
            slots = max(1, threads // _THREADS_EACH)
            if memory := int(info.get("memory_limit") or 0):
                slots = max(1, min(slots, memory // _BYTES_EACH))
            if (room := slots - busy[address]) > 0:
                rooms.append((address, max(1, threads // slots), room))
        return rooms
