"""Figures of a live run in the text format of Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterator

from rtface.live.control.status import LiveStatus

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
"""Name of a figure without labels, and its key in the status."""


def metrics(status: LiveStatus) -> str:
    """The answer to GET /metrics (docs/control.md)."""
    return "".join(f"rtface_{line}\n" for line in _lines(status))


def _lines(status: LiveStatus) -> Iterator[str]:
    shown = status.snapshot()
    yield from (f"{name} {float(shown[key])}" for name, key in _FIGURES.items())
    delays = ((int(key[1:]) / 100, ms / 1e3) for key, ms in shown["latency_ms"].items())
    yield from (f'latency_seconds{{quantile="{share}"}} {seconds}' for share, seconds in delays)
    for name in ("dropped", "passed"):
        yield from (f'frames_{name}_total{{cause="{cause}"}} {n}' for cause, n in shown[name].items())
    ends = [("source", shown["source"]), ("sound", shown["sound"]), *(("sink", sink) for sink in shown["sinks"])]
    for kind, end in (pair for pair in ends if pair[1]):
        label = f"{kind}={json.dumps(end['name'], ensure_ascii=False)}"  # JSON escapes as Prometheus does
        yield f"{kind}_up{{{label}}} {int(end['state'] == 'live')}"
        yield f"{kind}_reconnects_total{{{label}}} {end['reopened']}"
        yield f"{kind}_frames_total{{{label}}} {end['frames']}"
        for cause, n in end["causes"].items():
            yield f'{kind}_drops_total{{{label},cause="{cause}"}} {n}'
