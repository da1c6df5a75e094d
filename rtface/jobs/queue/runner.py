"""Runs each waiting item in its own process, and records the result."""

from __future__ import annotations

import queue as queues
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from math import inf

from rtface.concurrency.child_process import ChildProcess
from rtface.errors import Message, MissingComponent, OutputError, log
from rtface.jobs.queue.item import PAUSE, RESUME, STOP, Ended, Item, ItemProgress, Start, State, Task
from rtface.jobs.queue.store import Store
from rtface.util.machine import cores, how_many

TARGET = "rtface.jobs.queue.item_process:run_item"
"""Function that runs an item in its process, like ``rtface run``."""
_POLL_S = 0.25
_RECORD_S = 1.0  # seconds between two records of progress
# Approximate memory of a running film.
_ITEM_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class RunCounts:
    """Counts the results of a runner.

    Attributes:
        done, failed, cancelled: numbers of items with this result.
        waiting: number of items that still wait.
        paused: number of items that are paused.
    """

    done: int
    failed: int
    cancelled: int
    waiting: int
    paused: int

    @property
    def summary(self) -> str:
        """One line about the ended and the remaining items."""
        counts = asdict(self)
        return ", ".join(f"{n} {what}" for what, n in counts.items() if n or what in ("done", "failed"))


@dataclass(slots=True)
class _Running:
    """Contains the state of a running item."""

    task: Task
    child: ChildProcess
    progress: ItemProgress | None = None
    recorded_at: float = -_RECORD_S
    ended: Ended | None = None
    paused: bool = False
    stop_sent_at: float | None = None


class Runner:
    """Runs the waiting items of a queue. For the other arguments see `rtface.Queue.run`.

    Args:
        store: the queue's database.
        patience: seconds that an item gets to finish its file after a request to stop.
        target: the function that runs an item in its process.
    """

    def __init__(
        self,
        store: Store,
        *,
        at_once: int | str = 1,
        watch: bool = False,
        stop: threading.Event | None = None,
        progress: Callable[[list[Item]], None] | None = None,
        patience: float = 30.0,
        target: str = TARGET,
    ) -> None:
        self._store = store
        self._at_once = how_many(at_once, "--at-once", _ITEM_BYTES)
        self._threads = max(1, cores() // self._at_once) if self._at_once > 1 else None
        self._watch, self._stop = watch, stop or threading.Event()
        self._progress, self._patience = progress, patience
        self._target = target
        self._running: dict[int, _Running] = {}
        self._events: queues.SimpleQueue[tuple[int, object]] = queues.SimpleQueue()
        self._results = Counter[State]()
        self._just_ended: set[int] = set()
        self._waits = False  # whether another process needs the computer, such as a live run with a viewer
        self._shown_at = -_RECORD_S

    def run(self) -> RunCounts:
        """Runs items until none waits or `stop` is set; see `rtface.Queue.run`."""
        while True:
            with self._store.runner():
                try:
                    self._run()
                finally:
                    for running in self._running.values():
                        running.child.kill(0)
            # A process that has just added an item may have seen this runner, and therefore not started one.
            states = [item.state for item in self._store.items()]
            if self._stop.is_set() or "waiting" not in states or self._store.held("runner"):
                ended, waiting, paused = self._results, states.count("waiting"), states.count("paused")
                return RunCounts(ended["done"], ended["failed"], ended["cancelled"], waiting, paused)

    def _run(self) -> None:
        while True:
            self._receive()
            self._apply_requests()
            stopping = self._stop.is_set()
            if not stopping:
                self._start_items()
            self._show()
            if self._running:
                continue
            waiting = self._waits and any(item.state == "waiting" for item in self._store.items())
            if stopping or not (waiting or self._watch):
                return
            self._stop.wait(_RECORD_S)

    def _start_items(self) -> None:
        """Starts items while there is room."""
        self._waits = self._store.held("waits")
        while not self._waits and len(self._running) < self._at_once and (task := self._store.take()) is not None:
            try:
                self._running[task.id] = _Running(task, self._start(task))
            except MissingComponent as error:
                self._end(task.id, "failed", error.message)

    def _start(self, task: Task) -> ChildProcess:
        number, events = task.id, self._events
        return ChildProcess(
            self._target,
            Start(task, self._store.log_path(number), self._threads),
            name=f"queue-{number}",
            on_message=lambda message: events.put((number, message)),
            on_end=lambda reason: events.put((number, reason)),
        )

    def _receive(self) -> None:
        """Receives messages of the items' processes. Waits briefly for the first one while any item runs."""
        timeout = _POLL_S if self._running else 0.0
        while True:
            try:
                number, message = self._events.get(timeout=timeout) if timeout else self._events.get_nowait()
            except queues.Empty:
                break
            timeout = 0.0
            running = self._running[number]
            if isinstance(message, ItemProgress):
                running.progress = message
            elif isinstance(message, Ended):
                running.ended = message
            else:
                del self._running[number]
                self._record_end(running, Message(message if isinstance(message, str) else ""))
        for running in self._running.values():
            self._record(running)

    def _record(self, running: _Running) -> None:
        now = time.monotonic()
        if running.progress is None or now - running.recorded_at < _RECORD_S:
            return
        try:
            self._store.note_progress(running.task.id, running.progress)
        except OutputError as error:  # the disk may be full; the film may be on another disk
            log.warning("the progress of item %d cannot be recorded: %s", running.task.id, error)
        running.recorded_at, running.progress = now, None

    def _apply_requests(self) -> None:
        """Halts, resumes or stops running items as users request. All items are halted while a `waits` lock is
        held, and stopped if the runner is to stop."""
        if not self._running:
            return
        requests = self._store.requests()
        now = time.monotonic()
        for number, running in self._running.items():
            if running.stop_sent_at is None:
                pause = requests.get(number) == "pause"
                # A pause does not reach workers in other processes. Their item is stopped; it keeps its segments.
                must_stop = pause and {"workers", "farm"} & running.task.flags.keys()
                if self._stop.is_set() or requests.get(number) == "cancel" or must_stop:
                    running.child.send(STOP)
                    running.stop_sent_at = now
                elif (pause or self._waits) != running.paused:
                    running.paused = not running.paused
                    running.child.send(PAUSE if running.paused else RESUME)
            elif now - running.stop_sent_at > self._patience:
                running.stop_sent_at = inf
                log.warning("item %d did not stop within %.0f s; ending its process", number, self._patience)
                running.child.kill(0)

    def _record_end(self, running: _Running, reason: Message) -> None:
        """Records the result of an item whose process has exited."""
        number, ended = running.task.id, running.ended
        if ended is None and running.stop_sent_at is not None:
            ended = Ended("interrupted", Message())
        if ended is None:
            failure = partial(Message, why=reason or "its process ended", path=self._store.log_path(number))
            ended = Ended(
                "failed",
                failure("{why}, most likely because memory ran out; its output is in {path}", code="item_memory")
                if reason.values.get("signal") == "SIGKILL"
                else failure("{why}; its output is in {path}", code="item_died"),
            )
        if running.progress is not None:
            running.recorded_at = -_RECORD_S
            self._record(running)
        if ended.how != "interrupted":
            self._end(number, ended.how, ended.message)
            return
        request = self._store.requests().get(number)
        state: State = "cancelled" if request == "cancel" else "paused" if request == "pause" else "waiting"
        self._end(number, state, ended.message)

    def _end(self, number: int, state: State, message: Message) -> None:
        self._store.finish(number, state, message)
        self._results[state] += 1
        self._just_ended.add(number)
        self._shown_at = -_RECORD_S

    def _show(self) -> None:
        if self._progress is None or time.monotonic() - self._shown_at < _RECORD_S:
            return
        self._shown_at = time.monotonic()
        ids = self._just_ended | set(self._running)
        self._just_ended = set()
        self._progress([item for item in self._store.items() if item.id in ids])
