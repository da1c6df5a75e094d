"""The Prometheus endpoint, read back as Prometheus does."""

from __future__ import annotations

import re
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rtface.live.control.http_server import LocalHttpServer
from rtface.live.control.metrics import metrics_routes
from rtface.live.controls import LiveControls
from rtface.live.protocols import EndpointHealth
from rtface.stats import Stats
from tests.live.live_fakes import live_status


def end(*health, **more):
    return SimpleNamespace(described="a stream", health=EndpointHealth(*health, **more))


def served(status):
    return LocalHttpServer(metrics_routes(status), port=0, option="--metrics")


@pytest.fixture
def run():
    stats = Stats()
    status = live_status(
        ("rtsp://u:SECRET@h/a", end("live", "", 0.0, 310)),
        [
            ("rtmp://h/app/SECRET", end("away", "SECRET", 0.0, 290, 4, 12345, 3, causes={"network": 4})),
            ("vcam:", end("live", "", 0.0)),
        ],
        sound=("sound tcp://h:9", end("away", "", 0.0)),
        stats=stats,
        controls=LiveControls(strength=0.7),
    )
    metrics = served(status)
    yield stats, status, metrics
    metrics.close()


def scraped(metrics):
    with urllib.request.urlopen(f"{metrics.address}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            found[sample.name, *sorted(sample.labels.items())] = sample.value
    return text, found


def test_every_figure_is_there_under_a_name_of_prometheus_kind(run):
    stats, status, metrics = run
    stats.count("frames_in", 310)
    stats.count("frames_out", 300)
    stats.count("dropped:late", 10)
    stats.count("dropped:stage", 1)
    stats.count("faults", 2)
    stats.count("passed:late", 5)
    for _ in range(60):
        status.wrote(0.021, (1, 2))
    text, found = scraped(metrics)
    expected = {
        ("rtface_frames_received_total",): 310,
        ("rtface_frames_written_total",): 300,
        ("rtface_faults_total",): 2,
        ("rtface_frames_dropped_total", ("cause", "late")): 10,
        ("rtface_frames_dropped_total", ("cause", "sink")): 4,
        ("rtface_frames_passed_total", ("cause", "late")): 5,
        ("rtface_frames_dropped_total", ("cause", "stage")): 1,
        ("rtface_faces",): 2,
        ("rtface_enabled",): 1,
        ("rtface_strength_ratio",): 0.7,
        ("rtface_light_ratio",): 0,
        ("rtface_cpu_budget_ratio",): 1,
        ("rtface_source_up", ("source", "rtsp://h/a")): 1,
        ("rtface_sink_up", ("sink", "rtmp://h/app/…")): 0,
        ("rtface_sink_up", ("sink", "vcam:")): 1,
        ("rtface_sink_state", ("sink", "rtmp://h/app/…"), ("state", "away")): 1,
        ("rtface_sink_state", ("sink", "rtmp://h/app/…"), ("state", "live")): 0,
        ("rtface_sink_reconnects_total", ("sink", "rtmp://h/app/…")): 3,
        ("rtface_sink_frames_total", ("sink", "rtmp://h/app/…")): 290,
        ("rtface_sink_frames_dropped_total", ("sink", "rtmp://h/app/…")): 4,
        ("rtface_sink_drops_total", ("cause", "network"), ("sink", "rtmp://h/app/…")): 4,
        ("rtface_sink_bytes_total", ("sink", "rtmp://h/app/…")): 12345,
        ("rtface_source_frames_total", ("source", "rtsp://h/a")): 310,
        ("rtface_sound_up", ("sound", "sound tcp://h:9")): 0,
    }
    assert {key: found[key] for key in expected} == expected
    assert ("rtface_sink_bytes_total", ("sink", "vcam:")) not in found
    assert found["rtface_audio_offset_seconds",] == pytest.approx(0.021, rel=0.03)
    assert found["process_cpu_seconds_total",] > 0
    assert "SECRET" not in text
    assert not re.search(r"_ms\b|_percent|milli", text)


def test_the_histogram_counts_what_was_measured(run):
    stats, _, metrics = run
    values = np.random.default_rng(1).lognormal(np.log(0.025), 0.5, 2000)
    for value in values:
        stats.add("latency", float(value))
    _, found = scraped(metrics)
    buckets = {float(key[1][1]): n for key, n in found.items() if key[0] == "rtface_latency_seconds_bucket"}
    assert found["rtface_latency_seconds_count",] == 2000 == buckets[np.inf]
    assert found["rtface_latency_seconds_sum",] == pytest.approx(values.sum())
    bounds = sorted(buckets)
    assert len(bounds) == 21
    assert [buckets[b] for b in bounds] == sorted(buckets.values())
    for bound in bounds[:-1]:  # a bound has three digits
        assert (values <= bound * 0.995).sum() <= buckets[bound] <= (values <= bound * 1.005).sum()


@pytest.mark.skipif("not __import__('pathlib').Path('/proc/self/stat').exists()")
def test_memory_is_told_where_the_system_tells_it(run):
    assert scraped(run[2])[1]["process_resident_memory_bytes",] > 1e6


def test_two_runs_in_one_process_do_not_meet(run):
    _, status, metrics = run
    other = served(live_status(status.source, [], controls=LiveControls(strength=0.2)))
    assert scraped(other)[1]["rtface_strength_ratio",] == 0.2
    assert scraped(metrics)[1]["rtface_strength_ratio",] == 0.7
    other.close()
