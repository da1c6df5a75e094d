"""The whole command, live, between real servers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from skimage import data

from tests.live.command import Command, command_line, get, is_alive
from tests.live.servers import Nginx, Process, Publisher, Rtsp, Srt, free_port, program, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

# A stop may take a second; the rest is for a busy machine.
STOP_S = 1.5
PASSING = ("--tracker", "none", "--control", "0")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("RTFACE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def rtface(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """`rtface(*arguments)` starts the command; it is killed in the end."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **more: stack.enter_context(Command(tmp_path / "rtface", *arguments, **more))


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    with running(Nginx(tmp_path / "nginx")) as server:
        yield server


@pytest.fixture
def published(nginx: Nginx, tmp_path: Path) -> Iterator[str]:
    """A stream of pictures that carry the time, 320×180 at 15 fps, with sound."""
    url = nginx.url("source")
    with running(Publisher(url, "flv", tmp_path / "publisher", size="320x180", fps="15", gop="15")):
        yield url


def portrait(path: Path, seconds: int = 4, rate: int = 12) -> Path:
    """A soft portrait that drifts, 320×180, tagged BT.709, with a tone."""
    face = cv2.GaussianBlur(np.ascontiguousarray(data.astronaut()[:300, 60:480]), (0, 0), 2.0)
    with av.open(str(path), "w") as film:
        video = film.add_stream("libx264", rate, options={"preset": "ultrafast", "crf": "16"})
        video.width, video.height, video.pix_fmt = 320, 180, "yuv420p"
        context = video.codec_context
        context.gop_size, context.color_range, context.colorspace = rate, 1, 1
        context.color_primaries = context.color_trc = 1
        tone = film.add_stream("aac", 48_000, layout="mono")
        for i in range(seconds * rate):
            shift = np.float32([[0.72, 0, 8 + 4 * np.sin(i / 8)], [0, 0.72, -8]])
            frame = av.VideoFrame.from_ndarray(
                cv2.warpAffine(face, shift, (320, 180), borderMode=cv2.BORDER_REPLICATE), "rgb24")
            frame.pts, frame.time_base = i, Fraction(1, rate)
            film.mux(video.encode(frame))
        film.mux(video.encode(None))
        samples = 0.1 * np.sin(2764 * np.arange(seconds * 48_000) / 48_000)
        wave = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], "fltp", "mono")
        wave.sample_rate, wave.pts, wave.time_base = 48_000, 0, Fraction(1, 48_000)
        film.mux(tone.encode(wave))
        film.mux(tone.encode(None))
    return path


def looping(film: Path, url: str, log: Path) -> Process:
    """FFmpeg publishing a film again and again."""
    return Process([program("FFMPEG"), "-v", "error", "-re", "-stream_loop", "-1", "-i", str(film), "-c", "copy",
                    "-f", "flv", url], log)


def watched(url: str, pictures: int, timeout: float = 20) -> tuple[list[av.VideoFrame], set[str]]:
    """So many pictures of a stream, and the codecs that came."""
    frames: list[av.VideoFrame] = []
    codecs: set[str] = set()
    until = time.monotonic() + timeout
    with av.open(url, timeout=(timeout, 10)) as box:
        for packet in box.demux():
            codecs.add(packet.stream.codec_context.name)
            if packet.stream.type == "video":
                frames += packet.decode()
            if len(frames) >= pictures and len(codecs) == len(box.streams):
                break
            assert time.monotonic() < until, f"only {len(frames)} pictures came"
    return frames, codecs


def detail(frames: list[av.VideoFrame], box: tuple[slice, slice]) -> float:
    """How much fine detail a part of the pictures has."""
    return statistics.median(float(cv2.Laplacian(f.to_ndarray()[:180, :320][box], cv2.CV_64F).std()) for f in frames)


def test_a_film_goes_live_from_server_to_server_with_its_face_enhanced(nginx, rtface, tmp_path):
    film, also = portrait(tmp_path / "portrait.mp4"), tmp_path / "also.mkv"
    out, face = nginx.url("out"), (slice(35, 120), slice(85, 175))
    with running(looping(film, nginx.url("in"), tmp_path / "ffmpeg.log")):
        run = rtface(nginx.url("in"), out, "--engine", "rtface-s", "--device", "cpu", "--latency", "10000",
                     "--control", "0", "--also", also, "--json", "--bitrate", "1500k")
        run.runs(20)
        assert run.post("/off")["enabled"] is False
        time.sleep(1.5)
        passed, codecs = watched(out, 30)
        assert run.post("/on")["enabled"] is True
        run.until_status(lambda s: s["faces"] == 1)
        # A busy machine does less for a while; then the correction comes slowly.
        until = time.monotonic() + 40
        while True:
            enhanced, _ = watched(out, 15)
            if detail(enhanced, face) > 1.1 * detail(passed, face):
                break
            assert time.monotonic() < until, run.status()
        assert run.end(signal.SIGINT) < STOP_S
    assert run.process.returncode == 0
    assert codecs == {"h264", "aac"}
    last = enhanced[-1]
    assert (last.width, last.height, last.format.name) == (320, 180, "yuv420p")
    tags = [int(last.color_range), int(last.colorspace), int(last.color_primaries), int(last.color_trc)]
    assert tags == [1, 1, 1, 1]
    beside = (slice(0, 180), slice(230, 320))
    assert abs(detail(enhanced, beside) / detail(passed, beside) - 1) < 0.1

    report = run.json
    assert report["status"] == "done"
    assert report["frames_corrected"] > 20
    assert report["latency_ms"]["p50"] > 0
    assert set(report["latency_ms"]) == {"p50", "p95", "p99"}
    assert "late" in report["dropped"] or report["frames_dropped"] == 0
    assert [end["state"] for end in report["ends"]] == ["live", "live", "live"]
    assert all(end["frames"] > 20 for end in report["ends"])
    with av.open(str(also)) as box:
        assert {s.codec_context.name for s in box.streams} == {"h264", "aac"}
        times = [float(f.time) for f in box.decode(video=0)]
    assert len(times) > 0.9 * report["frames_out"] - 5
    assert times == sorted(set(times))
    with av.open(str(also)) as box:
        heard = sum(f.samples for f in box.decode(audio=0)) / 48_000
    assert abs(heard - (times[-1] - times[0])) < 2


def test_rtsp_goes_to_two_viewers_who_come_and_leave(rtface, tmp_path):
    with running(Rtsp(tmp_path / "rtsp")) as server:
        port = free_port()
        run = rtface(server.url, f"tcp://127.0.0.1:{port}?listen=1", *PASSING)
        run.says(r"nobody watches|control:")
        url = f"tcp://127.0.0.1:{port}"
        command = [program("FFMPEG"), "-v", "error", "-i", url, "-t", "20", "-f", "null", "-"]
        with running(Process(command, tmp_path / "viewer.log")) as viewer:
            first, codecs = watched(url, 20)
            assert run.until_status(lambda s: s["sinks"][0]["detail"] == "1 watches")
            second, _ = watched(url, 20)
            assert viewer.alive
        assert codecs == {"h264", "aac"}
        assert {(f.width, f.height) for f in (*first, *second)} == {(640, 360)}
        run.until_status(lambda s: s["sinks"][0]["detail"] == "nobody watches")
        assert run.end() < STOP_S
    assert run.process.returncode == 0


@pytest.mark.parametrize("audio", ["silent", "stream", "none"])
def test_sound_may_come_from_elsewhere(audio, published, nginx, rtface, tmp_path):
    """Pictures of one stream, sound of another, or of nobody."""
    with running(Publisher(nginx.url("mute"), "flv", tmp_path / "mute", size="320x180", fps="15", sound="none")):
        pictures, sound = (published, "none") if audio == "none" else (nginx.url("mute"), audio)
        run = rtface(pictures, nginx.url("out"), *PASSING, "--audio", published if audio == "stream" else sound)
        run.runs()
        _, codecs = watched(nginx.url("out"), 10)
        assert codecs == {"h264"} | ({"aac"} if audio != "none" else set())
        assert run.end() < STOP_S
    assert run.process.returncode == 0


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
    run = rtface(published, "null:", *PASSING, "--metrics", "0", "--delay", "300")
    run.runs()
    status = run.status()
    assert status["source"]["state"] == "live"
    assert status["delay_ms"] == status["audio_offset_ms"] == 300
    assert 295 < run.until_status(lambda s: s["frames_out"] > 30)["latency_ms"]["p50"] < 350
    assert run.post("/strength?value=0.4")["strength"] == 0.4
    figures = get(run.says(r"metrics: (\S+)")[1]).decode()
    assert re.search(r"^rtface_frames_written_total [1-9]", figures, re.MULTILINE), figures
    run.post("/quit")
    assert run.process.wait(5) == 0


def test_both_ends_are_lost_and_come_back_in_one_run(rtface, tmp_path):
    with running(Nginx(tmp_path / "a")) as a, running(Nginx(tmp_path / "b")) as b, running(
            Publisher(a.url("in"), "flv", tmp_path / "publisher", size="320x180", fps="15", gop="15")):
        run = rtface(a.url("in"), b.url("out"), *PASSING, "--json")
        run.runs()
        a.kill()
        b.kill()
        run.until_status(lambda s: s["source"]["state"] == s["sinks"][0]["state"] == "away", 6)
        time.sleep(1)
        b.start()
        run.until_status(lambda s: s["sinks"][0]["state"] == "live", 3.5)
        watched(b.url("out"), 10)  # what is shown instead
        a.start()
        run.until_status(lambda s: s["source"]["state"] == "live", 5.5)
        out = run.status()["frames_out"]
        run.until_status(lambda s: s["frames_out"] > out + 15, 5)
        frames, codecs = watched(b.url("out"), 10)
        assert codecs == {"h264", "aac"}
        assert frames[0].width == 320
        assert run.end() < STOP_S
    assert run.process.returncode == 0
    assert [end["reopened"] for end in run.json["ends"]] == [1, 1]
    assert run.json["faults"] == 0


SECRETS = ("hushkey", "hushpass", "hushtoken", "hushphrase")


def told(run: Command) -> str:
    """Its status, as text."""
    return json.dumps(run.status(), ensure_ascii=False)


def leaked(run: Command, *texts: str) -> list[str]:
    """Which secrets stand in what it says, or in the process list."""
    lines = [command_line(pid) for pid in run.children()]
    return [secret for secret in SECRETS if any(secret in text for text in (run.said, run.printed, *lines, *texts))]


@pytest.mark.parametrize("named", ["env", "file"])
def test_secrets_of_urls_show_nowhere(named, rtface, tmp_path):
    with running(Nginx(tmp_path / "a")) as a, running(Nginx(tmp_path / "b")) as b, running(
            Publisher(a.url("hushkey"), "flv", tmp_path / "publisher", size="320x180", fps="15", gop="15")):
        here = a.url("hushkey").replace("//", "//me:hushpass@") + "?token=hushtoken"
        there = f"{b.url('hushkey')}?token=hushtoken"
        (tmp_path / "url").write_text(there + "\n")
        ends = ("env:HERE", "env:THERE") if named == "env" else (here, f"@{tmp_path / 'url'}")
        report = tmp_path / "report.json"
        run = rtface(*ends, *PASSING, "--metrics", "0", "--json", "-vv", "--report", report,
                     environ={"HERE": here, "THERE": there})
        run.runs()
        figures = run.says(r"metrics: (\S+)")[1]
        seen = [get(figures).decode(), told(run)]
        assert "/live/…" in seen[1]
        if named == "env":
            assert not any(secret in command_line(run.process.pid) for secret in SECRETS)
        a.kill()
        b.kill()
        run.until_status(lambda s: s["source"]["state"] == s["sinks"][0]["state"] == "away", 6)
        time.sleep(1.5)
        seen += [get(figures).decode(), told(run)]
        assert leaked(run, *seen) == []
        run.end()
    assert run.process.returncode == 0
    assert leaked(run, report.read_text()) == []


def test_a_passphrase_of_srt_shows_nowhere(rtface, tmp_path):
    srt = Srt(tmp_path / "srt", to_udp=False, query="&passphrase=hushphrase12&pbkeylen=16")
    with running(srt), running(Publisher(f"udp://127.0.0.1:{srt.udp}?pkt_size=1316", "mpegts", tmp_path / "publisher",
                                         size="320x180", fps="15", gop="15")):
        run = rtface("env:HERE", "null:", *PASSING, "-vv", "--json",
                     environ={"HERE": f"{srt.url}?passphrase=hushphrase12"})
        run.runs()
        assert leaked(run, told(run)) == []
        srt.kill()
        run.until_status(lambda s: s["source"]["state"] == "away", 8)
        assert leaked(run, told(run)) == []
        assert run.end() < STOP_S
    assert run.process.returncode == 0
    assert leaked(run) == []


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return portrait(tmp_path_factory.mktemp("film") / "film.mp4", seconds=30)


# What is given, and what the one line says; FILM, TEXT, OTHER and DIR stand for files, PORT for one that nothing
# listens on, TAKEN for one that something does.
WRONG = {
    "no such camera": ("camera:9 null:", 1, "camera"),
    "no camera of that name": ("camera:Nobody null:", 1, "Nobody"),
    "no such device": ("/dev/video97 null:", 1, "video97"),
    "nothing listens there": ("rtmp://127.0.0.1:PORT/live/hushkey null:", 1, "check"),
    "nothing takes it there": ("FILM rtmp://127.0.0.1:PORT/live/hushkey", 1, "start the server"),
    "nothing listens at tcp": ("FILM tcp://127.0.0.1:PORT", 1, "start the server"),
    "no host of that name": ("rtmp://nobody.invalid/live/hushkey null:", 1, "nobody.invalid"),
    "a port that is taken": ("FILM tcp://127.0.0.1:TAKEN?listen=1", 1, "in use"),
    "no such virtual camera": ("FILM vcam:nobody", 1, "virtual camera"),
    "a virtual camera as input": ("vcam: null:", 2, "is an output"),
    "a camera as output": ("FILM camera:0", 2, "is a camera"),
    "rtsp as output": ("FILM rtsp://127.0.0.1:PORT/a", 2, "reading only"),
    "no port": ("FILM tcp://127.0.0.1", 2, "port"),
    "the same file twice": ("tcp://127.0.0.1:PORT DIR/a.mkv --also DIR/a.mkv", 2, "given twice"),
    "the input as record": ("FILM null: --also FILM --overwrite", 2, "given twice"),
    "a stream into itself": ("rtmp://127.0.0.1:PORT/live/hushkey rtmp://127.0.0.1:PORT/live/hushkey", 2, "given twice"),
    "null as input": ("null: DIR/a.mkv", 2, "is an output"),
    "a record that is there": ("FILM null: --also OTHER", 1, "--overwrite"),
    "no folder for the record": ("FILM null: --also DIR/no/a.mkv", 1, "no/a.mkv"),
    "a record of no kind": ("FILM null: --also DIR/a.xyz", 2, "mkv"),
    "a text as film": ("TEXT null:", 1, "text.mp4"),
    "no such film": ("DIR/none.mp4 null:", 1, "none.mp4"),
    "control port taken": ("FILM null: --control TAKEN", 2, "--control"),
    "metrics port taken": ("FILM null: --metrics TAKEN", 2, "--metrics"),
    "no such variable": ("env:NOT_THERE null:", 2, "NOT_THERE"),
    "no such file": ("@/not/there null:", 2, "/not/there"),
    "several inputs": ("camera:0 camera:1 null:", 2, "one INPUT"),
    "no such microphone": ("FILM null: --audio Nobody", 1, "Nobody"),
    "a film's option": ("FILM null: --start 2", 2, "--start is for films"),
    "no such option value": ("FILM null: --latency 1", 2, "latency"),
}


@pytest.mark.parametrize(("given", "code", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_said_in_a_line(given, code, said, rtface, film, tmp_path):
    (tmp_path / "text.mp4").write_text("no film\n" * 1000)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = tmp_path / "text.mp4"
        names = {"FILM": film, "TEXT": text, "OTHER": text, "DIR": tmp_path, "PORT": free_port(),
                 "TAKEN": taken.getsockname()[1]}
        for name, value in names.items():
            given = given.replace(name, str(value))
        run = rtface(*given.split(), "--tracker", "none")
        found = run.process.wait(40)
    text = run.said
    assert "Traceback" not in text
    assert "fault of rtface" not in text
    lines = [line for line in text.splitlines() if line.strip()]
    assert said in lines[-1], text
    assert found == code, text
    assert "hushkey" not in text
    assert not [p.name for p in tmp_path.glob("a.*")]


def test_a_rerun_into_a_recording_that_is_there_is_refused_before_anything_is_opened(published, rtface, tmp_path):
    (tmp_path / "a.mkv").write_bytes(b"precious")
    run = rtface(published, tmp_path / "a.mkv", "--tracker", "none")
    assert run.process.wait(20) == 1
    assert "--overwrite" in run.said
    assert (tmp_path / "a.mkv").read_bytes() == b"precious"


def test_a_film_goes_out_whole(rtface, tmp_path):
    """Though the engine, the output and the recording take longer to open than it lasts."""
    film, also = portrait(tmp_path / "film.mp4", seconds=2), tmp_path / "also.mkv"
    run = rtface(film, "null:", "--tracker", "none", "--also", also, "--json")
    assert run.process.wait(60) == 0
    assert run.json["frames_out"] >= 22, run.json["dropped"]
    with av.open(str(also)) as box:
        assert sum(1 for _ in box.decode(video=0)) >= 22
    with av.open(str(also)) as box:
        assert sum(f.samples for f in box.decode(audio=0)) / 48_000 > 1.8


def test_it_goes_on_when_nobody_reads_what_it_says(published, tmp_path):
    reader, writer = os.pipe()
    environ = {**os.environ, "RTFACE_CONFIG_DIR": os.devnull}
    process = subprocess.Popen([sys.executable, "-m", "rtface", "run", published, "null:", "--tracker", "none",
                                "--control", "0"], cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL,
                               stderr=writer, env=environ)
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


