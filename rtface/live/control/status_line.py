"""The status of a live run in one line."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
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
    """The run in one line of at most `width` characters: what is wrong first; what matters least is left out where
    there is no room. `screen` colours it."""
    parts = _troubles(status) + _figures(status)
    while len(text := _text(parts)) > width and (least := max(part.rank for part in parts)) > 1:
        parts = [part for part in parts if part.rank != least]
    if len(text) > width:
        parts = [replace(part, detail="") for part in parts]
    if len(text := _text(parts)) > width:
        return text[: max(0, width - 1)] + "…"
    return _text(parts, screen)


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of the line; of rank 0 stays, the highest is left out first. The detail is what is cut at last.

    Attributes:
        kind: of its colour: "fault", "warn", "ok", or "" for none.
    """

    text: str
    rank: int
    kind: str = ""
    detail: str = ""


def _text(parts: list[_Part], screen: StatusScreen | None = None) -> str:
    texts = ((part.kind, part.text + part.detail) for part in parts)
    return "  ".join(screen.paint(kind, text) if screen and kind else text for kind, text in texts)


def _troubles(status: LiveStatus) -> list[_Part]:
    """Ends that are not there, and outputs that drop frames."""
    parts: list[_Part] = []
    for name, end in status.ends:
        health = end.health
        if health.state != "live":
            seconds = "" if health.state == "closed" else f" {status.state_age(end):.0f} s"
            detail = f" ({redacted(health.detail)})" if health.detail else ""
            kind = "warn" if health.state == "opening" else "fault"
            parts.append(_Part(f"{name} {health.state}{seconds}", 0, kind, detail))
    return parts + [
        _Part(f"{loss['name']}: {loss['percent']} % dropped ({loss['cause']})", 1, "fault") for loss in status.losses
    ]


def _figures(status: LiveStatus) -> list[_Part]:
    recent, values, counters = status.window.histogram(), status.controls.values(), status.stats.counters
    dropped, damaged, faults = sum(status.dropped.values()), counters["frames_corrupt"], counters["faults"]
    faces, paused, delay = status.faces, status.paused, status.state.delay
    parts = [_Part(f"live {status.window.rate:.1f} fps", 0), _Part(counted(faces, "face"), 5)]
    if recent.count:
        parts.append(_Part("latency " + "/".join(f"{v:.0f}" for v in percentiles(recent).values()) + " ms", 2))
    if (buffer := status.buffer) >= 0.001:
        parts.append(_Part(f"buffer {1e3 * buffer:.0f} ms", 6))
    if (backlog := status.source[1].health.backlog) > BACKLOG_S:
        parts.append(_Part(f"source {backlog:.1f} s behind", 1, "fault"))
    if guarded := status.guarded:  # read once: the frame loop counts it anew on each frame
        parts.append(_Part(f"{guarded} guarded", 4))
    if (levels := status.levels) and not paused:
        parts.append(_Part(levels, 4))
    if values["cpu_budget"] < 1.0:
        parts.append(_Part(f"cpu {100 * status.processor.share:.0f} of {100 * values['cpu_budget']:.0f} %", 4))
    if delay is not None:
        parts.append(_Part(f"audio offset {1e3 * delay:.0f} ms", 6))
    parts.append(_Part(f"{dropped} dropped", 3 if dropped else 9))
    if damaged:
        parts.append(_Part(f"{damaged} damaged", 3, "warn"))
    if faults:
        parts.append(_Part(counted(faults, "fault"), 3, "warn"))
    if values["light"]:
        parts.append(_Part(f"light {values['light']:.3g}", 8))
    parts.append(_Part(f"strength {values['strength']:.1f}", 7))
    remarks = status.remarks
    if not paused:
        parts += [_Part(str(remark), 1, "warn") for remark in remarks]
    usual = f"paused: {paused}" if paused else "on" if values["enabled"] else "off"
    state = str(remarks[0]) if paused and remarks else usual
    return [*parts, _Part(state, 1, "ok" if state == "on" else "warn")]
