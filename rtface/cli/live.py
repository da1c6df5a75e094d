"""Runs ``rtface run`` live (camera, stream, virtual camera): keys, status line, control server."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from rtface.cli.console import Console, print_json
from rtface.cli.signals import StopRequest
from rtface.config.addresses import LiveAddress, is_live, parse_address, resolve_address
from rtface.config.options import LiveOptions, Options
from rtface.errors import Interrupted, Message, UsageError

if TYPE_CHECKING:
    from rtface.live.control.status_text import StatusLine
    from rtface.live.protocols import Endpoint
    from rtface.live.session import LiveSession
    from rtface.report import Report


def live_ends(names: Sequence[str]) -> tuple[LiveAddress, LiveAddress] | None:
    """Returns a live run's input and output; None for films and stills.

    Raises:
        UsageError: a live address is one of several inputs, or has no output.
    """
    ends = [parse_address(resolve_address(name)) for name in names]
    if len(ends) == 2:
        return (ends[0], ends[1]) if is_live(*ends) else None
    for end in ends:
        if end.kind not in ("stream", "file"):
            raise UsageError(
                "{address} needs exactly one INPUT and one OUTPUT, as in: rtface run camera:0 vcam:",
                code="live_one_input",
                address=end,
            )
    return None


def run_live_job(
    source: LiveAddress, sink: LiveAddress, options: Options, console: Console, stop: StopRequest, *, json: bool
) -> int:
    """Runs live with keys, status line and control server. Returns the exit code, which is 0 after an interruption."""
    from rtface.live.endpoint_factory import make_endpoints
    from rtface.live.session import run_live
    from rtface.stats import Stats

    stats = Stats()
    ends = make_endpoints(source, sink, options, stats)
    if options.dry_run:
        console.log(f"{source} → {', '.join(ends.names[1:])}: nothing was opened (--dry-run)")
        return 0
    try:
        with ExitStack() as stack:
            monitor = LiveMonitor(console, options, stack)
            report = run_live(ends, options, stats=stats, stop=stop.event, monitor=monitor)
    except Interrupted as interrupted:
        console.log(f"{source}: {interrupted}")
        return 0
    console.clear()
    monitor.show_new(report.notes)
    show_done(report, console)
    report_table = {"status": "done", **report.to_dict()}
    console.event("report", **report_table)
    if json:
        print_json(report_table)
    return 0


def show_done(report: Report, console: Console) -> None:
    """Shows a one-line summary of an ended run."""
    from rtface.live.protocols import BACKLOG_S

    latency = "/".join(f"{v:.0f}" for v in report.latency_ms.values())
    causes = [f"{n} {cause}" for cause, n in report.dropped.items() if n and cause != "sink"]
    causes += [f"{n} {cause} at {end['name']}" for end in report.ends[1:] for cause, n in end["causes"].items() if n]
    absences = [
        f"{end['name']} lost {n} time{'s' * (n > 1)}, "
        for end in report.ends
        if (n := end["reopened"] + (end["state"] == "away"))
    ]
    absences += [f"{end['name']} {end['backlog']:.1f} s behind, " for end in report.ends if end["backlog"] > BACKLOG_S]
    dropped, late, cpu_limit = (
        ", ".join(causes),
        report.passed.get("late", 0),
        float(report.options.get("cpu_budget", 1.0)),
    )
    running_s = report.frames_out / report.fps if report.fps else report.seconds  # without start and shutdown
    console.log(
        f"{report.frames_out} frames in {running_s:.0f} s "
        f"({report.fps:.1f} fps; {report.seconds:.0f} s with start and end), "
        f"{report.frames_corrected} corrected, latency p50/p95/p99 {latency or '-'} ms, "
        f"{f'{report.frames_damaged} damaged, ' if report.frames_damaged else ''}"
        f"{report.frames_dropped} dropped{f' ({dropped})' if dropped else ''}, "
        f"{f'{late} too late to be enhanced, ' if late else ''}{''.join(absences)}"
        f"{report.engine} on {report.device}, {100 * (report.cpu_share or 0.0):.0f} % of the processor"
        + (f" ({100 * cpu_limit:.0f} % allowed)" if cpu_limit < 1.0 else "")
    )
    if (path := report.options.get("report")) is not None:
        console.log(f"{path} written")


class LiveMonitor:
    """Handles keys, status line and control server of a live run. Called five times a second.

    Args:
        console: shows notes and the status line.
        options: options of the run, including `control`.
        stack: closes keys and server at the end.
    """

    def __init__(self, console: Console, options: LiveOptions, stack: ExitStack) -> None:
        self._console, self._options, self._stack = console, options, stack
        self._meter: StatusLine | None = None
        self._shown_notes: list[str] = []
        self._lost_at = dict[str, float]()  # when each absent input or output was lost

    def __call__(self, live: LiveSession) -> None:
        if self._meter is None:
            self._meter = self._start(live)
        self.show_new(live.ends.notes)  # notes may come later, such as that a recording's disk is full
        self.show_absences(live.status.ends)
        self._meter()

    def show_new(self, notes: Sequence[str]) -> None:
        """Shows notes that were not shown yet."""
        for note in notes:
            if note not in self._shown_notes:
                self._shown_notes.append(note)
                self._console.log(note)

    def show_absences(self, ends: Sequence[tuple[str, Endpoint]]) -> None:
        """Reports when an input or output is lost or returns. Logs therefore need no status line."""
        for name, end in ends:
            health = end.health
            if health.state == "away" and name not in self._lost_at:
                self._lost_at[name] = health.since
                self._console.log(
                    Message("{name} is away: {why}", code="end_away", name=name, why=health.detail), "warning"
                )
            elif health.state == "live" and name in self._lost_at:
                self._console.log(
                    Message(
                        "{name} is back after {seconds} s",
                        code="end_back",
                        name=name,
                        seconds=round(health.since - self._lost_at.pop(name)),
                    )
                )

    def _start(self, live: LiveSession) -> StatusLine:
        from rtface.live.control.browser import open_in_browser
        from rtface.live.control.control_routes import control_routes
        from rtface.live.control.http_server import LocalHttpServer
        from rtface.live.control.keyboard import HELP, read_keys
        from rtface.live.control.status_text import StatusLine

        options, console = self._options, self._console
        sources = [end.described for end in (live.ends.source, live.ends.sound) if end]
        console.log(f"{' and '.join(sources)} → {', '.join(sink.described for sink in live.ends.sinks)}")
        if (port := options.control) is not None:
            opens_preview = port == "show"
            key = os.environ.pop("RTFACE_CONTROL_KEY", "")
            routes = control_routes(live.status, live.persons, live.filters, files=bool(key))
            server = LocalHttpServer(routes, port=0 if port == "show" else port, key=key)
            self._stack.callback(server.close)
            page = f"{server.address}/preview"
            text = "control: {address}" + ", preview: {page}" * opens_preview
            console.log(Message(text, code="control", address=server.address, page=page))
            if opens_preview:
                open_in_browser(page)
        self._stack.enter_context(read_keys(live.controls, console.log))
        if console.live and sys.stdin.isatty():
            console.log(HELP)
        return StatusLine(console, live.status)
