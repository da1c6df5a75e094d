"""Runs a virtual camera only while a program reads it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from rtface.concurrency.threads import start_thread
from rtface.errors import Message, RtfaceError, UsageError, log, message_of

if TYPE_CHECKING:
    from rtface_studio.live_run import LiveRun


CameraState = Literal["starting", "running", "asleep", "failed"]

POLL_S = 1.0
UNWATCHED_S = 20.0
"""Seconds without a reader after which the run ends."""
RETRY_S = (10.0, 30.0, 120.0)
"""Seconds before each restart after a failure. The last value applies to all later restarts."""
_CLOSE_S = 10.0


class CameraRun:
    """Starts and ends a virtual camera's live runs, depending on its readers.

    A run ends when no program has read the camera for `UNWATCHED_S`. The first run starts at once, because only a run
    reports the camera's size.

    Args:
        start: function that starts a live run.
        wait: function that keeps the virtual camera open, at a width and height, until a program reads it or the event
            is set. Raises RtfaceError on failure.
        poll: interval in seconds for polling the run.
        retry: seconds before each restart of a failed run; see `RETRY_S`.
        clock: returns seconds.

    Attributes:
        state: state of the camera.
        error: reason for the state "failed".
        enabled: whether faces are enhanced. Applies to later runs, too.
        changed: called, on any thread, when one of the attributes above has changed.
    """

    def __init__(
        self,
        start: Callable[[], LiveRun],
        wait: Callable[[int, int, threading.Event], None],
        *,
        poll: float = POLL_S,
        retry: Sequence[float] = RETRY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start, self._wait, self._clock = start, wait, clock
        self._poll, self._retry = poll, retry
        self.state: CameraState = "starting"
        self.error = Message()
        self.enabled = True
        self.changed: Callable[[], None] = lambda: None
        self._size: tuple[int, int] | None = None
        self._failures = 0
        self._run: LiveRun | None = None
        self._applied = False
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Starts a thread that waits for readers and runs the camera."""
        self._thread = start_thread("camera", self._loop)

    def close(self) -> None:
        """Ends the run and releases the camera."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)

    def toggle(self) -> None:
        """Turns the enhancement off or on. The camera continues in both cases."""
        self.enabled = not self.enabled
        if (run := self._run) is not None and self._applied:  # a copy, because the camera's thread may reset `_run`
            self._apply(run)
        self.changed()

    def _apply(self, run: LiveRun) -> None:
        """Applies `enabled` to a run. If a policy forbids this, the run keeps its value."""
        try:
            run.set("enabled", self.enabled)
        except UsageError as error:
            log.warning("%s", error)
        self._applied = True

    def _set(self, state: CameraState, error: Message | None = None) -> None:
        if (state, error or "") != (self.state, self.error):
            self.state, self.error = state, error or Message()
            self.changed()

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                self._run_once()
            except (RtfaceError, OSError) as error:
                self._wait_after_failure(message_of(error))

    def _run_once(self) -> None:
        """Waits for a reader. Starts a run that lasts until the camera has no reader."""
        if self._size is not None:
            self._set("asleep")
            self._wait(*self._size, self._stop)
            if self._stop.is_set():
                return
        self._set("starting")
        self._run = self._start()
        try:
            failure = self._follow_run(self._run)
        finally:
            self._run.stop()
            self._run = None
        if failure is not None:
            self._wait_after_failure(failure)

    def _follow_run(self, run: LiveRun) -> Message | None:
        """Follows a run until the camera has no reader for long. Returns the reason if the run itself ended."""
        last_watched, self._applied = self._clock(), False
        while not self._stop.wait(self._poll):
            state = run.state()
            status = state["status"]
            if state["state"] in ("ended", "failed"):
                return Message.of(state["error"] or {"message": "the live run has ended"})
            if status is None:
                continue
            self._failures = 0
            if not self._applied:
                if status["enabled"] != self.enabled:
                    self._apply(run)
                self._applied = True
            elif status["enabled"] != self.enabled:  # changed elsewhere, for example on the page
                self.enabled = status["enabled"]
                self.changed()
            if size := status["sinks"][0]["size"]:
                self._size = size[0], size[1]
            self._set("running")
            if status["watched"]:
                last_watched = self._clock()
            elif self._clock() - last_watched >= UNWATCHED_S and self._size is not None:
                return None
        return None

    def _wait_after_failure(self, error: Message) -> None:
        self._set("failed", error)
        self._stop.wait(self._retry[min(self._failures, len(self._retry) - 1)])
        self._failures += 1
