"""The whole command, live: how it is ended and controlled, and what it leaves."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
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


def test_keys_on_a_terminal(published, rtface):
    run = rtface(published, "null:", *PASSING, tty=True)
    run.runs()
    run.type(" ")
    run.until_status(lambda s: not s["enabled"], 3)
    run.type("--")
    run.until_status(lambda s: s["strength"] == pytest.approx(0.8), 3)
    run.type(" ")
    run.until_status(lambda s: s["enabled"], 3)
    run.says(r"\d fps")
    began = time.monotonic()
    run.type("q")
    assert run.process.wait(10) == 0
    assert time.monotonic() - began < STOP_S
    assert "Traceback" not in run.said


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


def test_it_goes_on_when_nobody_reads_what_it_says(published, tmp_path):
    reader, writer = os.pipe()
    environ = {**os.environ, "RTFACE_CONFIG_DIR": os.devnull}
    process = subprocess.Popen(
        [sys.executable, "-m", "rtface", "run", published, "null:", "--tracker", "none", "--control", "0"],
        cwd=Path(__file__).parents[3],
        stdin=subprocess.DEVNULL,
        stderr=writer,
        env=environ,
    )
    os.close(writer)
    try:
        said = b""
        while b"control:" not in said:
            piece = os.read(reader, 1000)
            assert piece, said
            said += piece
        os.close(reader)
        address = re.search(r"control: (\S+)", said.decode())[1]
        # Something to say: a line comes every ten seconds.
        time.sleep(11)
        assert json.loads(get(f"{address}/status"))["frames_out"] > 100
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def test_an_interrupted_start_says_nothing_of_python(rtface, film):
    """Whenever the signal comes: while Python starts, modules load, the engine opens."""
    for pause in (0.3, 0.8, 1.5):
        run = rtface(film, "null:", "--tracker", "none")
        time.sleep(pause)
        run.process.send_signal(signal.SIGTERM)
        code = run.process.wait(10)
        assert code in (0, -signal.SIGTERM)
        assert "Traceback" not in run.said, run.said
