"""Prometheus metrics of a live run."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily as Counter
from prometheus_client.metrics_core import GaugeMetricFamily as Gauge
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.metrics_core import InfoMetricFamily as Info
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rtface._version import __version__
from rtface.live.control.status import LiveStatus
from rtface.live.protocols import EndpointHealth
from rtface.stats import EDGES, Histogram

# Of the 331 bounds of a `Histogram` those nearest to these milliseconds; what is counted up to them is exact.
_NEAR_MS = (1, 2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 75, 100, 150, 200, 300, 500, 1000, 2000, 5000)
_BUCKETS = sorted({int(np.abs(EDGES - ms / 1e3).argmin()) for ms in _NEAR_MS})
_STATES = ("opening", "live", "away", "closed")


def metrics_routes(status: LiveStatus) -> list[BaseRoute]:
    """GET /metrics for a `LocalHttpServer`: the figures of `status`, read when it is asked."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Run(status))
    if Path("/proc/self/stat").exists():
        ProcessCollector(registry=registry)  # cpu, memory, open files
    else:
        registry.register(_Cpu())

    def figures(request: Request) -> Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=kind)

    return [Route("/metrics", figures)]


class _Run(Collector):
    def __init__(self, status: LiveStatus) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        status = self._status
        counters, values = status.stats.counters, status.controls.values()
        yield Info("rtface", "The program that runs", {"version": __version__})
        yield Counter("rtface_frames_received", "Frames from the source", counters["frames_in"])
        yield Counter("rtface_frames_written", "Frames to the sinks", counters["frames_out"])
        yield _causes("rtface_frames_dropped", "Dropped frames, by cause", status.dropped)
        yield _causes("rtface_frames_passed", "Frames with faces that were not enhanced, by cause", status.passed)
        yield Counter("rtface_frames_damaged", "Frames that came damaged", counters["frames_corrupt"])
        yield Counter("rtface_faults", "Steps that failed and were left out", counters["faults"])
        stages = dict(status.stats.stages)
        yield _histogram(
            "rtface_latency_seconds", "From capture to the hand-over to the sinks", stages.get("latency", Histogram())
        )
        yield Gauge("rtface_frames_per_second", "Frame rate of the output", status.window.rate)
        yield Gauge("rtface_faces", "Faces on the last frame", status.faces)
        yield Gauge("rtface_enabled", "Whether faces are enhanced", float(values["enabled"]))
        yield Gauge("rtface_strength_ratio", "Share of the correction that is added", float(values["strength"]))
        yield Gauge("rtface_light_ratio", "Lightening of dark frames", float(values["light"]))
        yield Gauge(
            "rtface_cpu_budget_ratio", "Share of all cores that may be used; 1 is no limit", float(values["cpu_budget"])
        )
        if (offset := status.audio_offset) is not None:
            yield Gauge("rtface_audio_offset_seconds", "Delay that other sound needs", offset)
        yield from _ends("source", [(status.source[0], status.source[1].health)])
        if status.sound is not None:
            yield from _ends("sound", [(status.sound[0], status.sound[1].health)])
        yield from _ends("sink", [(name, sink.health) for name, sink in status.sinks])
        lost = Counter("rtface_sink_drops", "Frames that a sink dropped, by cause", labels=["sink", "cause"])
        for name, sink in status.sinks:
            for cause, n in sink.health.causes.items():
                lost.add_metric([name, cause], n)
        yield lost


class _Cpu(Collector):
    """CPU time of this process, on systems without /proc."""

    def collect(self) -> Iterable[Metric]:
        yield Counter(
            "process_cpu_seconds", "Total user and system CPU time spent in seconds.", value=time.process_time()
        )


def _causes(name: str, text: str, counts: dict[str, int]) -> Metric:
    family = Counter(name, text, labels=["cause"])
    for cause, n in counts.items():
        family.add_metric([cause], n)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    below = np.cumsum(histogram.bins)
    buckets = [(f"{EDGES[i]:.3g}", float(below[i])) for i in _BUCKETS] + [("+Inf", float(below[-1]))]
    family = HistogramMetricFamily(name, text)
    family.add_metric([], buckets, histogram.total)
    return family


def _ends(end: str, healths: list[tuple[str, EndpointHealth]]) -> Iterable[Metric]:
    """State, reconnects and traffic of the source, the source of the sound, or the sinks, labelled with the name."""

    def counter(name: str, text: str, values: Iterable[tuple[str, float | None]]) -> Metric:
        family = Counter(f"rtface_{end}_{name}", text, labels=[end])
        for label, value in values:
            if value is not None:
                family.add_metric([label], value)
        return family

    up = Gauge(f"rtface_{end}_up", f"Whether the {end} is live", labels=[end])
    state = Gauge(f"rtface_{end}_state", f"State of the {end}, 1 for the one it is in", labels=[end, "state"])
    since = Gauge(f"rtface_{end}_state_age_seconds", "How long it has been in it", labels=[end])
    now = time.monotonic()
    for name, health in healths:
        up.add_metric([name], float(health.state == "live"))
        for one in _STATES:
            state.add_metric([name, one], float(health.state == one))
        since.add_metric([name], max(0.0, now - health.since))
    return (
        up,
        state,
        since,
        counter("reconnects", "Reconnects", ((n, h.reopened) for n, h in healths)),
        counter("frames", "Frames that it gave or took", ((n, h.frames) for n, h in healths)),
        counter("frames_dropped", "Dropped frames", ((n, h.dropped) for n, h in healths)),
        counter("bytes", "Bytes of the network connection", ((n, h.bytes) for n, h in healths)),
    )
