"""The status of a live run: the window, the JSON, the line."""

from __future__ import annotations

import io
import json
import re
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace

import pytest

from rtface.cli.console import Console
from rtface.cli.live import LiveMonitor
from rtface.config.options import LiveOptions
from rtface.live.control.meters import LatencyWindow, ProcessorMeter
from rtface.live.control.status_text import StatusLine, line_of, metrics
from rtface.live.controls import LiveControls
from rtface.live.protocols import EndpointHealth
from rtface.stats import Stats
from tests.live.live_fakes import SteppedClock, live_status

Clock = partial(SteppedClock, 100.0)


def end(health, described="camera 0, 1280×720"):
    return SimpleNamespace(health=health, described=described, wanted=True)


def made(clock, *, source=None, sink=None, stats=None, controls=None, **more):
    live = EndpointHealth("live", "", 90.0, frames=3)
    return live_status(
        ("camera:0", end(source or live)),
        [("vcam:", end(sink or live))],
        stats=stats,
        controls=controls or LiveControls(strength=0.8),
        clock=clock,
        **more,
    )


def run(status, clock, frames=300, latency=0.021, faces=1):
    for _ in range(frames):
        clock.now += 1 / 30
        status.wrote(latency, range(1, faces + 1))


def test_a_log_has_a_line_for_each_going_and_return():
    log = io.StringIO()
    monitor = LiveMonitor(Console(0, log, {}), LiveOptions(), ExitStack())
    states = [("live", "", 90.0), ("away", "no data for 3.5 s", 100.0), ("away", "refused", 103.0)]
    for health in (*states, ("live", "", 112.0), *states):
        monitor.show_absences([("udp://1", end(EndpointHealth(*health))), ("null:", end(EndpointHealth(*states[0])))])
    gone = "rtface: warning: udp://1 is away: no data for 3.5 s\n"
    assert log.getvalue() == f"{gone}rtface: udp://1 is back after 12 s\n{gone}"


def test_the_window_forgets_what_is_older_than_ten_seconds():
    clock = Clock()
    window = LatencyWindow(clock)
    for second in range(40):
        for _ in range(30):
            clock.now += 1 / 30
            window.add(0.5 if second < 20 else 0.02)
    found = window.histogram()
    assert 299 <= found.count <= 301
    assert found.percentile(99) == pytest.approx(0.02, rel=0.03)
    assert found.max == 0.02
    clock.now += 5
    assert 100 < window.histogram().count < 200
    clock.now += 100
    assert window.histogram().count == 0
    assert window.histogram().percentile(50) == 0


def test_the_rate_is_steady_and_falls_when_nothing_comes():
    clock = Clock()
    window, burst = LatencyWindow(clock), LatencyWindow(clock)
    assert window.rate == 0
    burst.add(0.01)
    clock.now += 1e-4
    burst.add(0.01)
    assert burst.rate == 2, "two frames at once are no 10,000 per second"
    rates = []
    for n in range(300):
        clock.now += 1 / 30 + (0.004 if n % 2 else -0.004)
        window.add(0.01)
        rates.append(window.rate)
    assert all(abs(rate - 30) < 0.2 for rate in rates[60:])
    clock.now += 1.0
    assert 15 < window.rate < 25
    clock.now += 2.5
    assert window.rate == 0


def test_the_line_is_as_documented():
    clock = Clock()
    status = made(clock)
    run(status, clock)
    assert line_of(status) == "on  live 30.0 fps  1 face  latency 21/21/21 ms  0 dropped  strength 0.8"
    status.controls.set("enabled", False)
    assert line_of(status).startswith("off  live")


def test_what_is_wrong_comes_first_and_is_coloured():
    clock = Clock()
    status = made(clock, source=EndpointHealth("away", "unplugged", 97.0))
    painted = line_of(status, 79, Screen(True, "[{kind}:{text}]"))
    assert painted.startswith("[fault:camera:0 away 3 s (unplugged)]  [ok:on]  live 0.0 fps")


@pytest.mark.parametrize("width", [20, 30, 40, 60, 79, 100, 200])
def test_the_line_fits_and_keeps_what_matters(width):
    clock = Clock()
    stats = Stats()
    stats.count("dropped:late", 1234)
    stats.count("faults", 2)
    status = made(
        clock,
        stats=stats,
        sink=EndpointHealth("away", "connection refused by the other side", 40.0),
        controls=LiveControls(strength=0.8, light=0.5),
        delay=0.06,
        levels=["keyframes"],
    )
    run(status, clock)
    text = line_of(status, width)
    assert len(text) <= width
    assert text.startswith("vcam: away 70 s")
    if width >= 60:
        assert text.startswith("vcam: away 70 s (connection refused by the other side)  on")
    if width == 200:
        for part in ("1234 dropped", "2 faults", "keyframes", "audio offset 60 ms", "light 0.5", "strength 0.8"):
            assert part in text


def test_the_share_of_the_processor_is_of_the_last_seconds():
    clock, spent = Clock(), [5.0]
    meter = ProcessorMeter(lambda: spent[0], 4, clock)
    status = made(clock, processor=meter, controls=LiveControls(cpu_budget=0.5))
    for rate in (2.0, 1.0):  # cores
        for _ in range(40):
            clock.now += 0.5
            spent[0] += 0.5 * rate
            assert status.snapshot()["cpu_share"] <= 0.5
    assert "cpu 25 of 50 %" in line_of(status, 200)
    assert meter.run_share == pytest.approx(0.375)
    status.controls.set("cpu_budget", 1.0)
    assert "cpu" not in line_of(status, 200)


def test_the_json_has_everything_and_no_secret():
    clock = Clock()
    stats = Stats()
    stats.count("frames_in", 310)
    stats.count("frames_out", 300)
    stats.count("dropped:late", 10)
    stats.count("dropped:sink", 5)
    stats.count("passed:late", 4)
    stats.warn("x", "cannot reach rtmp://u:SECRET@h/app/SECRET?x=SECRET")
    away = EndpointHealth(
        "away", "rtmp://u:SECRET@h/app/SECRET refused", 99.0, frames=7, dropped=2, bytes=55, reopened=3
    )
    status = live_status(
        ("rtmp://h/app/SECRET", end(away)),
        [("srt://h:1?passphrase=SECRET", end(away, "stream to srt://h:1?passphrase=SECRET"))],
        stats=stats,
        controls=LiveControls(strength=0.6),
        clock=clock,
    )
    found = status.snapshot()
    text = json.dumps(found, allow_nan=False)
    assert "SECRET" not in text + line_of(status, 200)
    assert found["audio_offset_ms"] is None
    run(status, clock, latency=0.031, faces=2)
    found = status.snapshot()
    assert (found["strength"], found["enabled"], found["faces"]) == (0.6, True, 2)
    assert found["fps"] == pytest.approx(30, abs=0.1)
    assert found["latency_ms"]["p95"] == pytest.approx(31, rel=0.03)
    assert found["dropped"] == {"late": 10, "source": 0, "sink": 7}
    assert found["passed"] == {"late": 4}
    assert found["audio_offset_ms"] == pytest.approx(31, abs=1)
    assert found["delay_ms"] is None
    sink = found["sinks"][0]
    assert sink["wanted"] is True
    assert (sink["name"], sink["state"], sink["frames"], sink["bytes"], sink["reopened"]) == (
        "srt://h:1",
        "away",
        7,
        55,
        3,
    )


def test_what_a_viewer_misses_is_said_while_it_is_missed():
    clock, sink = Clock(), end(EndpointHealth("live", "", 90.0))
    status = live_status(("camera:0", sink), [("rtmp://h/live/…", sink)], clock=clock)
    for n in range(600):
        lost = max(0, min(n, 450) - 150) // 2  # of every two from the 5th to the 15th second one
        sink.health = EndpointHealth("live", "", 90.0, frames=n - lost, dropped=lost, causes={"network": lost})
        run(status, clock, frames=1)
        if n == 140:
            assert not status.losses
        if n == 440:
            assert [(loss["name"], loss["cause"]) for loss in status.losses] == [("rtmp://h/live/…", "network")]
            painted = line_of(status, 200, Screen(True, "[{kind}:{text}]"))
            assert (
                re.match(r"\[fault:rtmp://h/live/…: 4\d % dropped \(network\)\]", painted)
                and f"{lost} dropped" in painted
            )
            assert status.snapshot()["sinks"][0]["causes"] == {"network": lost}
    clock.now += 1
    assert status.snapshot()["dropped"]["sink"] == 150
    run(status, clock, frames=330)
    assert not status.losses


def test_the_line_says_why_nothing_is_enhanced():
    clock, levels = Clock(), ["full", "pass-through"]
    status = made(clock, levels=levels)
    run(status, clock, frames=30, faces=2)
    assert line_of(status, 200).endswith("0 dropped  full, pass-through  strength 0.8")
    levels[0] = "pass-through"
    assert (
        line_of(status, 60).startswith("paused: computer too busy")
        and status.snapshot()["paused"] == "computer too busy"
    )
    run(status, clock, frames=30, faces=0)
    assert line_of(status).startswith("on  ")
    status.sinks[0][1].wanted = False
    assert line_of(status).startswith("paused: no viewers")
    status.controls.set("enabled", False)
    assert line_of(status).startswith("off  ") and not status.paused


@pytest.mark.parametrize(
    ("missed", "faces", "said"),
    [("passed:late", 1, "frames come too late"), ("frames_unseen", 0, "computer too busy")],
)
def test_frames_that_are_mostly_missed_are_a_pause(missed, faces, said):
    clock, stats = Clock(), Stats()
    status = made(clock, stats=stats)
    for n in range(450):
        stats.count("frames_out")
        stats.count(missed, int(n >= 60))
        run(status, clock, frames=1, faces=faces)
        assert n > 60 or not status.paused
    assert line_of(status).startswith(f"paused: {said}")


class Screen:
    def __init__(self, live, painted="\x1b[1m{text}\x1b[0m"):
        self.live, self.lines, self.painted = live, [], painted

    def status(self, line):
        self.lines.append(line)

    def paint(self, kind, text):
        return self.painted.format(kind=kind, text=text)


def test_the_meter_prints_5_lines_a_second_on_a_terminal_only(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for live, expected in ((True, 100), (False, 2)):
        clock = Clock()
        screen, status = Screen(live), made(clock)
        meter = StatusLine(screen, status, clock=clock)
        for _ in range(2000):
            clock.now += 0.01
            meter()
        assert abs(len(screen.lines) - expected) <= 0.06 * expected
        assert all(len(re.sub("\x1b\\[[0-9]m", "", line)) <= 79 for line in screen.lines)
        assert ("\x1b" in screen.lines[0]) is live


def test_ends_of_one_label_get_different_names():
    live = end(EndpointHealth("live", "", 0.0))
    status = live_status(("rtmp://h/app/a", live), [(f"rtmp://h/app/{key}", live) for key in "bc"])
    assert [name for name, _ in status.ends] == ["rtmp://h/app/…", "rtmp://h/app/… #2", "rtmp://h/app/… #3"]
    assert status.ends == [status.source, *status.sinks] and not status.sound


def test_every_figure_is_there_under_a_name_of_prometheus_kind():
    stats = Stats()
    status = live_status(
        ("rtsp://u:SECRET@h/a", end(EndpointHealth("live", "", 0.0, 310), "a stream")),
        [
            (
                "rtmp://h/app/SECRET",
                end(EndpointHealth("away", "SECRET", 0.0, 290, 4, 12345, 3, causes={"network": 4}), "a stream"),
            ),
            ('a "quoted" name', end(EndpointHealth("live", "", 0.0), "a stream")),
        ],
        sound=("sound tcp://h:9", end(EndpointHealth("away", "", 0.0), "a stream")),
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
