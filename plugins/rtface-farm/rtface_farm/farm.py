"""Segments of a job on the workers of a Dask cluster.

Dask finds the workers and returns results. This module assigns segments to workers, because a task that Dask assigned
to a hanging worker would wait for minutes. Only the first result recorded for a segment counts, so a late result from
a worker that was considered lost does no harm.
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
# A worker without a heartbeat for this many seconds gets no segment.
SILENT_S = 15.0
END_S = 5.0  # time limit for `Farm.end`
_ASSIGN_S = 1.0  # interval for polling the scheduler's workers
# Threads and bytes of memory for each simultaneous segment of a worker. A worker gets at least one segment.
_THREADS_EACH, _BYTES_EACH = 4, 2 << 30
_ATTEMPTS = 3  # number of crashes after which a segment ends the job
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
            "--farm {address}: give the address of a Dask scheduler, such as dask://host:8786 or dask+tls://host:8786",
            code="dask_address",
            address=text,
        )
    address = f"{'tls' if match[1] == '+tls' else 'tcp'}://{match[2]}:{match[3] or 8786}"
    if not match[1] and open_to_others(address):
        raise UsageError(
            "--farm {address}: the connection is not encrypted, and anyone who can reach a Dask scheduler can run "
            "programs on its workers; use dask+tls:// with certificates, or dask+insecure:// in a network where you "
            "trust everyone",
            code="dask_open",
            address=text,
        )
    return address


def open_to_others(address: str) -> bool:
    """Tests whether a Dask address is neither encrypted nor on this machine. Dask has no password, so anyone who
    can reach the scheduler can run programs on its workers."""
    return address.startswith("tcp:") and not _LOCAL.fullmatch(address.removeprefix("tcp://").rpartition(":")[0])


@dataclass(slots=True, eq=False)
class _Assignment:
    """A segment that is assigned to a worker."""

    worker: str
    number: int = -1
    future: Any = None
    lost: bool = False  # the worker no longer responds, so the segment may go to another worker


class Farm:
    """The workers of a Dask cluster for one job.

    Has the same interface as `rtface.jobs.local_workers.LocalWorkers`.

    Args:
        folder: folder of the job, on a disk that all workers see under the same path.
        plan: plan of the job.
        address: value of ``--farm``; see `scheduler_address`.
        notify: called with each line for the user.

    Raises:
        MissingComponent: the scheduler cannot be reached.
    """

    def __init__(
        self,
        folder: JobFolder,
        plan: JobPlan,
        address: str,
        notify: Callable[[str], object],
    ) -> None:
        dask: Any = importlib.import_module("distributed")  # the import takes a second
        address = scheduler_address(address)
        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # this class reports what matters to the user
        self._folder, self._plan, self._address, self._notify = folder, plan, address, notify
        try:
            self._client = dask.Client(address, timeout=CONNECT_S, set_as_default=False, name="rtface")
        except Exception as error:  # of many types: no answer, missing certificates, a wrong configuration
            raise MissingComponent(
                "the Dask scheduler {address} cannot be reached ({why}); start one with: dask scheduler",
                code="dask_unreachable",
                address=address,
                why=" ".join(str(error).split()),
            ) from error
        self._run_id, self._segments = secrets.token_hex(6), HandOut(folder, len(plan))
        self._assignments: list[_Assignment] = []
        self.steps: dict[str, Step] = {}  # worker → its last finished segment
        self._excluded: dict[str, str] = {}  # excluded worker → reason
        self._used_workers: set[str] = set()  # workers that got a segment
        self._failures: Counter[int] = Counter()
        self._heartbeats: dict[str, tuple[object, float]] = {}
        self._result_arrived = threading.Event()
        self._assigned_at = -_ASSIGN_S
        self._wait_announced = False

    @staticmethod
    def check(address: str) -> None:
        """Raises UsageError unless `address` is a valid scheduler address."""
        scheduler_address(address)

    def wait(self, timeout: float) -> bool:
        """Assigns segments and waits for results. Returns whether segments are unfinished.

        Raises:
            UsageError: every worker has been excluded.
            OutputError: a segment failed repeatedly, or the scheduler no longer responds.
        """
        self._result_arrived.wait(timeout)
        self._result_arrived.clear()
        self._collect()
        if len(self._folder.finished()) >= len(self._plan):
            return False
        if time.monotonic() - self._assigned_at >= _ASSIGN_S:
            self._assigned_at = time.monotonic()
            self._assign_segments()
        return True

    def end(self) -> None:
        """Ends all workers' tasks and closes the connection, within `END_S` seconds."""

        def disconnect() -> None:  # runs in a thread, because a hanging worker never responds
            with suppress(Exception):
                self._client.cancel([assignment.future for assignment in self._assignments])
            with suppress(Exception):
                if self._used_workers:
                    self._client.run(task.stop, self._run_id, workers=list(self._used_workers), on_error="ignore")
            with suppress(Exception):
                self._client.close(timeout=1)

        start_thread("farm-end", disconnect).join(END_S if self._used_workers else 2.0)

    def _collect(self) -> None:
        """Processes the finished results."""
        for assignment in [each for each in self._assignments if each.future.done()]:
            self._assignments.remove(assignment)
            self._segments.give_back(assignment)
            self._process_result(assignment.number, assignment)

    def _process_result(self, number: int, assignment: _Assignment) -> None:
        if assignment.future.cancelled():
            return
        error = assignment.future.exception()
        kind, why = (
            ("crashed", f"{type(error).__name__}: {' '.join(str(error).split())}")
            if error
            else assignment.future.result()
        )
        if isinstance(error, ImportError | AttributeError | TypeError):
            kind, why = "refused", f"its rtface differs from the one on this machine ({why})"
        why = printable(why)
        if kind == "done":
            self._segments.finish(number)
            earlier = self.steps[assignment.worker].frames if assignment.worker in self.steps else 0
            frames = earlier + self._plan.frames[number]
            self.steps[assignment.worker] = Step(number, self._plan.seconds(number), 0, frames)
        if kind in ("done", "stopped"):
            return
        log.info("segment %d on %s: %s: %s", number, assignment.worker, kind, why)
        if kind == "refused":
            if assignment.worker not in self._excluded:
                self._notify(f"worker {assignment.worker} is excluded: {why}")
            self._excluded[assignment.worker] = why
            return
        self._failures[number] += 1
        if kind == "failed" or self._failures[number] >= _ATTEMPTS:
            raise OutputError(
                "{path}: segment {number} failed on {worker} ({why}); run the same command again to continue",
                code="farm_segment",
                path=self._folder.path,
                number=number,
                worker=assignment.worker,
                why=why,
            )

    def _assign_segments(self) -> None:
        """Assigns unfinished segments to workers with free slots."""
        workers = self._workers()
        self._check_workers(workers)
        for assignment in self._assignments:
            if not assignment.lost and assignment.worker not in workers:
                assignment.lost = True
                self._segments.give_back(assignment)
                log.info("segment %d: %s no longer responds; will be reassigned", assignment.number, assignment.worker)
        for address, threads, free in self._free_slots(workers):
            for _ in range(free):
                assignment = _Assignment(address)
                number = self._segments.take(assignment)
                if number is None:
                    return
                self._submit(assignment, number, threads)

    def _submit(self, assignment: _Assignment, number: int, threads: int) -> None:
        assignment.number, assignment.future = (
            number,
            self._client.submit(
                task.make_segment,
                self._folder,
                self._plan,
                number,
                threads,
                self._run_id,
                pure=False,
                key=f"rtface-{self._run_id}-{number}-{secrets.token_hex(3)}",
                workers=[assignment.worker],
                retries=0,
            ),
        )
        self._assignments.append(assignment)
        assignment.future.add_done_callback(self._wake)
        self._used_workers.add(assignment.worker)

    def _wake(self, future: object) -> None:
        self._result_arrived.set()

    def _workers(self) -> dict[str, dict[str, Any]]:
        """Returns the workers with a recent heartbeat, by address."""
        try:
            workers: dict[str, dict[str, Any]] = dict(self._client.scheduler_info(n_workers=-1)["workers"])
        except Exception as error:  # Dask raises many types of errors
            raise OutputError(
                "the Dask scheduler {address} no longer responds ({why}); finished segments are kept; run the same "
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

    def _check_workers(self, workers: dict[str, dict[str, Any]]) -> None:
        usable = [address for address in workers if address not in self._excluded]
        if workers and not usable:
            why = next(iter(self._excluded.values()))
            raise UsageError(
                "all workers of {address} are excluded: {why}", code="farm_no_worker", address=self._address, why=why
            )
        if not workers and not self._wait_announced:
            self._wait_announced = True
            self._notify(f"{self._address} has no workers yet; waiting for one (dask worker {self._address})")

    def _free_slots(self, workers: dict[str, dict[str, Any]]) -> list[tuple[str, int, int]]:
        """Lists the workers with free slots: address, threads for each segment, number of free slots."""
        busy = Counter(assignment.worker for assignment in self._assignments)
        result: list[tuple[str, int, int]] = []
        for address, info in workers.items():
            if address in self._excluded:
                continue
            threads = max(1, int(info.get("nthreads") or 1))
            slots = max(1, threads // _THREADS_EACH)
            if memory := int(info.get("memory_limit") or 0):
                slots = max(1, min(slots, memory // _BYTES_EACH))
            if (free := slots - busy[address]) > 0:
                result.append((address, max(1, threads // slots), free))
        return result
