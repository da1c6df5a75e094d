"""The whole command, live: what it says, and what it must not."""

from __future__ import annotations

import json
import socket
import sys
import time

import pytest

from tests.live.command import Command, command_line, get
from tests.live.servers import Nginx, Publisher, Srt, free_port, running
from tests.live.whole.scene import PASSING, STOP_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


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
    "the same file twice": ("tcp://127.0.0.1:PORT DIR/a.mkv --also DIR/a.mkv", 1, "same file as OUTPUT"),
    "the input as record": ("FILM null: --also FILM --overwrite", 1, "is the input itself"),
    "the report as record": ("FILM null: --also DIR/a.mkv --report DIR/a.mkv", 1, "same file as --also"),
    "a report that is there": ("FILM null: --report OTHER", 1, "--overwrite"),
    "one slash": ("FILM rtmp:/127.0.0.1/live/hushkey", 2, "two slashes"),
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
    "a film's option": ("FILM null: --start 2", 2, "--start has no effect here: it is for films"),
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


def test_an_existing_recording_is_refused_before_opening(published, rtface, tmp_path):
    (tmp_path / "a.mkv").write_bytes(b"precious")
    run = rtface(published, tmp_path / "a.mkv", "--tracker", "none")
    assert run.process.wait(20) == 1
    assert "--overwrite" in run.said
    assert (tmp_path / "a.mkv").read_bytes() == b"precious"
