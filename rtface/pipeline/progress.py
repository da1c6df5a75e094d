"""Measures a run's progress, and shows it on one line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import monotonic
from typing import Protocol

from rtface.util.parse import format_clock
from rtface.util.text import counted

BAR = 20
TERMINAL_INTERVAL_S = 0.2
PLAIN_INTERVAL_S = 10.0
# With a smaller share and fewer frames done, no time left is estimated, because loading the engines would dominate it.
_MIN_SHARE, _MIN_FRAMES = 0.1, 50


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run.

    Attributes:
        frames: frames written so far.
        seconds_done: seconds of the film written so far.
        duration_s: seconds of the film to write, None when unknown.
        fps: recent frames per second.
        faces: faces on the last frame.
        resumed_s: seconds of the film that were written by an earlier run, which this run continues.
    """

    frames: int
    seconds_done: float
    duration_s: float | None
    fps: float
    faces: int
    resumed_s: float = 0.0


Show = Callable[[Progress], None]


class LineOutput(Protocol):
    """Display of one status line (see `rtface.cli.console.Console`)."""

    @property
    def live(self) -> bool:
        """Whether the line may change often."""
        ...

    def status(self, line: str, **facts: object) -> None:
        """Shows a line. On a terminal, it replaces the previous line. Programs that read events get `facts`."""


def share(progress: Progress) -> float | None:
    """Returns the share done, 0…1; None if the length is unknown."""
    if not progress.duration_s:
        return None
    return min(1.0, max(0.0, progress.seconds_done / progress.duration_s))


def eta(progress: Progress, elapsed: float) -> float | None:
    """Returns the seconds left at the mean speed, or None if unknown."""
    share_done = share(progress)
    if not share_done or elapsed <= 0 or not progress.duration_s:
        return None
    share_of_run = share_done - progress.resumed_s / progress.duration_s
    if share_of_run <= 0 or (share_of_run < _MIN_SHARE and progress.frames < _MIN_FRAMES):
        return None
    return elapsed * (1 - share_done) / share_of_run


def describe(name: str, progress: Progress, elapsed: float, *, bar: bool) -> str:
    """Returns a line about `progress`, with a bar for a terminal. `elapsed`: seconds since the start."""
    share_done, seconds_left = share(progress), eta(progress, elapsed)
    parts = [name]
    if share_done is None:
        parts.append(counted(progress.frames))
    else:
        filled = int(share_done * BAR)
        percent = f"{100 * share_done:3.0f} %" if bar else f"{100 * share_done:.0f} %"
        parts.append(f"[{'#' * filled}{'-' * (BAR - filled)}] {percent}" if bar else percent)
    parts.append(f"{progress.fps:.1f} fps")
    parts.append(counted(progress.faces, "face"))
    if seconds_left is not None:
        parts.append(f"{format_clock(seconds_left)} left")
    return "  ".join(parts) if bar else f"{parts[0]}: {', '.join(parts[1:])}"


class Pace:
    """Decides when to show a line: on a terminal at once and five times a second, else every 10 s."""

    def __init__(self, line: LineOutput) -> None:
        self._interval = TERMINAL_INTERVAL_S if line.live else PLAIN_INTERVAL_S
        self._shown = monotonic() - (self._interval if line.live else 0.0)

    def due(self) -> bool:
        """Returns whether a line should be shown now."""
        now = monotonic()
        due = now - self._shown >= self._interval
        if due:
            self._shown = now
        return due


class ProgressLine:
    """Shows each `Progress` as a line, as often as `Pace` allows."""

    def __init__(self, line: LineOutput, name: str) -> None:
        self._line, self._name, self._pace = line, name, Pace(line)
        self._started = monotonic()

    def __call__(self, progress: Progress) -> None:
        if not self._pace.due():
            return
        elapsed = monotonic() - self._started
        self._line.status(
            describe(self._name, progress, elapsed, bar=self._line.live),
            **asdict(progress) | {"input": self._name, "share": share(progress), "left_s": eta(progress, elapsed)},
        )


class SpeedMeter:
    """Measures frames per second over about the last second of work."""

    def __init__(self) -> None:
        self._since = self._ticked = monotonic()
        self._count, self._fps = 0, 0.0

    def tick(self) -> float:
        """Counts a frame, and returns the speed."""
        self._count, self._ticked = self._count + 1, monotonic()
        elapsed = self._ticked - self._since
        if elapsed >= 1.0 or not self._fps:
            self._fps = self._count / max(elapsed, 1e-3)
        if elapsed >= 1.0:
            self._since, self._count = self._ticked, 0
        return self._fps

    def leave_out(self) -> None:
        """Ignores the time since the last `tick`, such as a pause."""
        self._since += monotonic() - self._ticked
