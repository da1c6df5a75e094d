"""The figures for Prometheus, read back line by line."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from rtface.live.control.status_text import metrics
from rtface.live.controls import LiveControls
from rtface.live.protocols import EndpointHealth
from rtface.stats import Stats
from tests.live.live_fakes import live_status


def end(*health, **more):
    return SimpleNamespace(described="a stream", wanted=True, health=EndpointHealth(*health, **more))


def test_every_figure_is_there_under_a_name_of_prometheus_kind():
    stats = Stats()
    status = live_status(
        ("rtsp://u:SECRET@h/a", end("live", "", 0.0, 310)),
        [
            ("rtmp://h/app/SECRET", end("away", "SECRET", 0.0, 290, 4, 12345, 3, causes={"network": 4})),
            ('a "quoted" name', end("live", "", 0.0)),
        ],
        sound=("sound tcp://h:9", end("away", "", 0.0)),
        stats=stats,
        controls=LiveControls(strength=0.7),
    )
    stats.count("frames_in", 310)
    stats.count("frames_out", 300)
    stats.count("dropped:late", 10)
    stats.count("passed:late", 5)
    for _ in range(60):
        status.wrote(0.021, (1, 2))
    text = metrics(status)
    lines = [re.fullmatch(r"(rtface_\w+(?:\{[^{}]+\})?) ([\d.]+(?:e-?\d+)?)", line) for line in text.splitlines()]
    found = {line[1]: float(line[2]) for line in lines}
    expected = {
        "rtface_frames_received_total": 310,
        "rtface_frames_written_total": 300,
        'rtface_frames_dropped_total{cause="late"}': 10,
        'rtface_frames_dropped_total{cause="sink"}': 4,
        'rtface_frames_passed_total{cause="late"}': 5,
        "rtface_faces": 2,
        "rtface_enabled": 1,
        "rtface_strength_ratio": 0.7,
        'rtface_source_up{source="rtsp://h/a"}': 1,
        'rtface_source_frames_total{source="rtsp://h/a"}': 310,
        'rtface_sound_up{sound="sound tcp://h:9"}': 0,
        'rtface_sink_up{sink="rtmp://h/app/…"}': 0,
        'rtface_sink_up{sink="a \\"quoted\\" name"}': 1,
        'rtface_sink_reconnects_total{sink="rtmp://h/app/…"}': 3,
        'rtface_sink_drops_total{sink="rtmp://h/app/…",cause="network"}': 4,
    }
    assert {key: found[key] for key in expected} == expected
    assert found['rtface_latency_seconds{quantile="0.95"}'] == pytest.approx(0.021, rel=0.03)
    assert 'rtface_latency_seconds{quantile="0.5"}' in found
    assert "SECRET" not in text
