"""Formats a live run's status as one line and for Prometheus."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from rtface.live.control.status import LiveStatus
from rtface.live.protocols import BACKLOG_S
from rtface.pipeline.progress import PLAIN_INTERVAL_S, TERMINAL_INTERVAL_S, LineOutput
from rtface.util.text import counted


class StatusScreen(LineOutput, Protocol):
    """A `LineOutput` with colours (see `rtface.cli.console.Console`)."""

    def paint(self, kind: str, text: str) -> str: ...


class StatusLine:
    """Shows the status line: five times a second on a terminal, every 10 s elsewhere.

    It may be called more often, and while no frames arrive.
    """

    def __init__(
        self, screen: StatusScreen, status: LiveStatus, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._screen, self._status, self._clock = screen, status, clock
        self._interval = TERMINAL_INTERVAL_S if screen.live else PLAIN_INTERVAL_S
        self._shown_at = clock() - (self._interval if screen.live else 0.0)

    def __call__(self) -> None:
        if self._clock() - self._shown_at < self._interval:
            return
        self._shown_at, screen = self._clock(), self._screen
        width = shutil.get_terminal_size().columns - 1 if screen.live else 200
        screen.status(line_of(self._status, width, screen if screen.live else None))


def line_of(status: LiveStatus, width: int = 79, screen: StatusScreen | None = None) -> str:
    """Formats the status as one line of at most `width` characters. Faults come first. The least important parts come
    last, where the line is cut off. `screen` colours the line."""
    parts: list[str] = []
    for kind, text in _parts(status):
        if width < 2:
            break
        part = text if len(text) <= width else text[: width - 1] + "…"
        parts.append(screen.paint(kind, part) if screen and kind else part)
        width -= len(part) + 2
    return "  ".join(parts)


def _parts(status: LiveStatus) -> Iterator[tuple[str, str]]:
    """Yields the kind (see `StatusScreen.paint`) and text of each part."""
    values = status.snapshot()
    for end in filter(None, (values["source"], values["sound"], *values["sinks"])):
        if end["state"] != "live":
            seconds = "" if end["state"] == "closed" else f" {end['for_s']:.0f} s"
            detail = f" ({end['detail']})" if end["detail"] else ""
            yield "warn" if end["state"] == "opening" else "fault", f"{end['name']} {end['state']}{seconds}{detail}"
    for loss in values["losses"]:
        yield "fault", f"{loss['name']}: {loss['percent']} % dropped ({loss['cause']})"
    if (backlog := values["source"]["backlog"]) > BACKLOG_S:
        yield "fault", f"source {backlog:.1f} s behind"
    if not values["paused"]:
        yield ("ok", "on") if values["enabled"] else ("warn", "off")
    elif not values["remarks"]:
        yield "warn", f"paused: {values['paused']}"
    yield from (("warn", remark["message"]) for remark in values["remarks"])
    yield "", f"live {values['fps']:.1f} fps"
    yield "", counted(values["faces"], "face")
    if values["fps"]:
        yield "", "latency " + "/".join(f"{ms:.0f}" for ms in values["latency_ms"].values()) + " ms"
    yield "", f"{sum(values['dropped'].values())} dropped"
    if values["damaged"]:
        yield "warn", f"{values['damaged']} damaged"
    if values["faults"]:
        yield "warn", counted(values["faults"], "fault")
    if (levels := status.levels) and not values["paused"]:
        yield "", levels
    if values["cpu_budget"] < 1.0:
        yield "", f"cpu {100 * values['cpu_share']:.0f} of {100 * values['cpu_budget']:.0f} %"
    if values["buffer_ms"]:
        yield "", f"buffer {values['buffer_ms']} ms"
    if values["delay_ms"] is not None:
        yield "", f"audio offset {values['delay_ms']} ms"
    yield "", f"strength {values['strength']:.1f}"
    if values["light"]:
        yield "", f"light {values['light']:.3g}"


_FIGURES = {
    "frames_received_total": "frames_in",
    "frames_written_total": "frames_out",
    "frames_damaged_total": "damaged",
    "faults_total": "faults",
    "frames_per_second": "fps",
    "faces": "faces",
    "enabled": "enabled",
    "strength_ratio": "strength",
    "light_ratio": "light",
    "cpu_budget_ratio": "cpu_budget",
    "cpu_ratio": "cpu_share",
}
"""Names of metrics without labels, with their keys in the status."""


def metrics(status: LiveStatus) -> str:
    """Returns the response to GET /metrics (docs/control.md)."""
    return "".join(f"rtface_{line}\n" for line in _lines(status))


def _lines(status: LiveStatus) -> Iterator[str]:
    values = status.snapshot()
    yield from (f"{name} {float(values[key])}" for name, key in _FIGURES.items())
    delays = ((int(key[1:]) / 100, ms / 1e3) for key, ms in values["latency_ms"].items())
    yield from (f'latency_seconds{{quantile="{share}"}} {seconds}' for share, seconds in delays)
    for name in ("dropped", "passed"):
        yield from (f'frames_{name}_total{{cause="{cause}"}} {n}' for cause, n in values[name].items())
    ends = [("source", values["source"]), ("sound", values["sound"]), *(("sink", sink) for sink in values["sinks"])]
    for kind, end in (pair for pair in ends if pair[1]):
        label = f"{kind}={json.dumps(end['name'], ensure_ascii=False)}"  # JSON and Prometheus escape in the same way
        yield f"{kind}_up{{{label}}} {int(end['state'] == 'live')}"
        yield f"{kind}_reconnects_total{{{label}}} {end['reopened']}"
        yield f"{kind}_frames_total{{{label}}} {end['frames']}"
        for cause, n in end["causes"].items():
            yield f'{kind}_drops_total{{{label},cause="{cause}"}} {n}'
