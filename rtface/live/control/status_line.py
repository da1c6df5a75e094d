"""The status of a live run in one line."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from rtface.live.control.status import LiveStatus, percentiles
from rtface.live.protocols import BACKLOG_S
from rtface.pipeline.progress import PLAIN_INTERVAL, TERMINAL_INTERVAL, LineOutput
from rtface.redaction import redacted
from rtface.util.text import counted


class StatusScreen(LineOutput, Protocol):
    """A `LineOutput` with colours (see `rtface.cli.console.Console`)."""

    def paint(self, kind: str, text: str) -> str: ...


class StatusLine:
    """Shows the line: five times a second on a terminal, every 10 s elsewhere.

    Call it as often as you like, also while no frames come.
    """

    def __init__(
        self, screen: StatusScreen, status: LiveStatus, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._screen, self._status, self._clock = screen, status, clock
        self._interval = TERMINAL_INTERVAL if screen.live else PLAIN_INTERVAL
        self._shown = clock() - (self._interval if screen.live else 0.0)

    def __call__(self) -> None:
        if self._clock() - self._shown < self._interval:
            return
        self._shown, screen = self._clock(), self._screen
        width = shutil.get_terminal_size().columns - 1 if screen.live else 200
        screen.status(line_of(self._status, width, screen if screen.live else None))


def line_of(status: LiveStatus, width: int = 79, screen: StatusScreen | None = None) -> str:
    """The run in one line of at most `width` characters: what is wrong first, what matters least last, where it is cut
    if there is no room. `screen` colours it."""
    parts: list[str] = []
    for kind, text in (*_troubles(status), *_figures(status)):
        if width < 2:
            break
        part = text if len(text) <= width else text[: width - 1] + "…"
        parts.append(screen.paint(kind, part) if screen and kind else part)
        width -= len(part) + 2
    return "  ".join(parts)


def _troubles(status: LiveStatus) -> Iterator[tuple[str, str]]:
    """Ends that are not there, and outputs that drop frames: the kind of their colour, and the text."""
    for name, end in status.ends:
        health = end.health
        if health.state != "live":
            seconds = "" if health.state == "closed" else f" {status.state_age(end):.0f} s"
            detail = f" ({redacted(health.detail)})" if health.detail else ""
            yield "warn" if health.state == "opening" else "fault", f"{name} {health.state}{seconds}{detail}"
    for loss in status.losses:
        yield "fault", f"{loss['name']}: {loss['percent']} % dropped ({loss['cause']})"
    if (backlog := status.source[1].health.backlog) > BACKLOG_S:
        yield "fault", f"source {backlog:.1f} s behind"


def _figures(status: LiveStatus) -> Iterator[tuple[str, str]]:
    recent, values, counters = status.window.histogram(), status.controls.values(), status.stats.counters
    remarks, paused = status.remarks, status.paused
    if not paused:
        yield ("ok", "on") if values["enabled"] else ("warn", "off")
    elif not remarks:
        yield "warn", f"paused: {paused}"
    yield from (("warn", str(remark)) for remark in remarks)
    yield "", f"live {status.window.rate:.1f} fps"
    yield "", counted(status.faces, "face")
    if recent.count:
        yield "", "latency " + "/".join(f"{v:.0f}" for v in percentiles(recent).values()) + " ms"
    yield "", f"{sum(status.dropped.values())} dropped"
    if damaged := counters["frames_corrupt"]:
        yield "warn", f"{damaged} damaged"
    if faults := counters["faults"]:
        yield "warn", counted(faults, "fault")
    if guarded := status.guarded:  # read once: the frame loop counts it anew on each frame
        yield "", f"{guarded} guarded"
    if (levels := status.levels) and not paused:
        yield "", levels
    if values["cpu_budget"] < 1.0:
        yield "", f"cpu {100 * status.processor.share:.0f} of {100 * values['cpu_budget']:.0f} %"
    if (buffer := status.buffer) >= 0.001:
        yield "", f"buffer {1e3 * buffer:.0f} ms"
    if status.state.delay is not None:
        yield "", f"audio offset {1e3 * status.state.delay:.0f} ms"
    yield "", f"strength {values['strength']:.1f}"
    if values["light"]:
        yield "", f"light {values['light']:.3g}"
