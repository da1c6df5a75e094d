"""The whole command, live: how it is ended and controlled, and what it leaves."""

from __future__ import annotations

import re
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.live.command import command_line, get, is_alive
from tests.live.servers import Nginx, running
from tests.live.whole.scene import PASSING, STOP_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def shared_memory() -> set[str]:
    """What programs have left in the machine's shared memory."""
    return {p.name for p in Path("/dev/shm").iterdir()} if Path("/dev/shm").exists() else set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_within_a_second_and_nothing_is_left(number, published, nginx, rtface, tmp_path):
    before = shared_memory()
    run = rtface(published, nginx.url("out"), *PASSING, "--also", tmp_path / "also.mkv")
    run.runs()
    children = run.children()
    assert len(children) >= 3
    assert run.end(number) < STOP_S
    assert run.process.returncode == 0
    assert "Traceback" not in run.said
    time.sleep(0.1)
    assert not [command_line(pid) for pid in children if is_alive(pid)]
    assert shared_memory() <= before
    assert list(run.scratch.iterdir()) == []
    assert [p.name for p in tmp_path.glob("*also*")] == ["also.mkv"]


def test_stalled_ends_do_not_hold_up_the_stop(published, rtface, tmp_path, nginx):
    with running(Nginx(tmp_path / "other")) as other:
        run = rtface(published, other.url("out"), *PASSING)
        run.runs()
        nginx.stall()
        other.stall()
        time.sleep(1)
        assert run.end() < STOP_S
    assert run.process.returncode == 0


def test_a_stop_does_not_wait_for_a_server_that_says_nothing(rtface):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run = rtface(f"rtmp://127.0.0.1:{silent.getsockname()[1]}/live/a", "null:")
        silent.settimeout(20)
        peer, _ = silent.accept()
        children = run.children()
        assert run.end(signal.SIGINT) < STOP_S
        peer.close()
    assert run.process.returncode == 0
    time.sleep(0.3)
    assert not [pid for pid in children if is_alive(pid)]


def test_a_killed_run_leaves_no_process(published, nginx, rtface, tmp_path):
    run = rtface(published, nginx.url("out"), *PASSING, "--also", tmp_path / "also.mkv")
    run.runs()
    children = run.children()
    assert len(children) >= 3
    run.end(signal.SIGKILL)
    time.sleep(1)
    assert not [command_line(pid) for pid in children if is_alive(pid)]


def test_control_and_metrics_while_live(published, rtface):
    run = rtface(published, "null:", *PASSING, "--delay", "300")
    run.runs()
    status = run.status()
    assert status["source"]["state"] == "live"
    assert status["delay_ms"] == status["audio_offset_ms"] == 300
    assert 295 < run.until_status(lambda s: s["frames_out"] > 30)["latency_ms"]["p50"] < 350
    assert run.post("/set?strength=0.4")["strength"] == 0.4
    figures = get(f"{run.control}/metrics").decode()
    assert re.search(r"^rtface_frames_written_total [1-9]", figures, re.MULTILINE), figures
    run.post("/quit")
    assert run.process.wait(5) == 0


def test_an_interrupted_start_says_nothing_of_python(rtface, film):
    """Whenever the signal comes: while Python starts, modules load, the engine opens."""
    for pause in (0.3, 0.8, 1.5):
        run = rtface(film, "null:", "--tracker", "none")
        time.sleep(pause)
        run.process.send_signal(signal.SIGTERM)
        code = run.process.wait(10)
        assert code in (0, -signal.SIGTERM)
        assert "Traceback" not in run.said, run.said
