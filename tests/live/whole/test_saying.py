"""The whole command, live: what it says, and what it must not."""

from __future__ import annotations

import json
import socket
import sys
import time

import pytest

from tests.live.command import Command, command_line, get
from tests.live.servers import Nginx, Publisher, free_port, running
from tests.live.whole.scene import PASSING

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


SECRETS = ("hushkey", "hushpass", "hushtoken")


def told(run: Command) -> str:
    """Its status, as text."""
    return json.dumps(run.status(), ensure_ascii=False)


def leaked(run: Command, *texts: str) -> list[str]:
    """Which secrets stand in what it says, or in the process list."""
    lines = [command_line(pid) for pid in run.children()]
    return [secret for secret in SECRETS if any(secret in text for text in (run.said, run.printed, *lines, *texts))]


def test_secrets_of_urls_show_nowhere(rtface, tmp_path):
    with (
        running(Nginx(tmp_path / "a")) as a,
        running(Nginx(tmp_path / "b")) as b,
        running(Publisher(a.url("hushkey"), "flv", tmp_path / "publisher", size="320x180", fps="15", gop="15")),
    ):
        here = a.url("hushkey").replace("//", "//me:hushpass@") + "?token=hushtoken"
        (tmp_path / "url").write_text(f"{b.url('hushkey')}?token=hushtoken\n")
        report = tmp_path / "report.json"
        run = rtface(
            "env:HERE",
            f"@{tmp_path / 'url'}",
            *PASSING,
            "--json",
            "-vv",
            "--report",
            report,
            environ={"HERE": here},
        )
        run.runs()
        figures = f"{run.control}/metrics"
        seen = [get(figures).decode(), told(run)]
        assert "/live/…" in seen[1]
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


# What is given, and what the one line says; FILM, TEXT, OTHER and DIR stand for files, PORT for one that nothing
# listens on, TAKEN for one that something does. Addresses and files that are refused without opening anything:
# tests/live/test_addresses.py.
WRONG = {
    "no such camera": ("camera:9 null:", 1, "camera"),
    "no camera of that name": ("camera:Nobody null:", 1, "Nobody"),
    "no such device": ("/dev/video97 null:", 1, "video97"),
    "nothing listens there": ("rtmp://127.0.0.1:PORT/live/hushkey null:", 1, "nothing is listening there"),
    "nothing takes it there": ("FILM rtmp://127.0.0.1:PORT/live/hushkey", 1, "start the server"),
    "no host of that name": ("rtmp://nobody.invalid/live/hushkey null:", 1, "check host and port"),
    "a port that is taken": ("FILM tcp://127.0.0.1:TAKEN?listen=1", 1, "in use"),
    "nobody could call": ("FILM tcp://127.0.0.1:PORT", 2, "add ?listen to the address"),
    "no such virtual camera": ("FILM vcam:nobody", 1, "virtual camera"),
    "a report that is there": ("FILM null: --report OTHER", 1, "--overwrite"),
    "a text as film": ("TEXT null:", 1, "text.mp4"),
    "no such film": ("DIR/none.mp4 null:", 1, "none.mp4"),
    "several inputs": ("camera:0 camera:1 null:", 2, "one INPUT"),
    "no such microphone": ("FILM null: --audio Nobody", 1, "Nobody"),
}


@pytest.mark.parametrize(("given", "code", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_is_said_in_a_line(given, code, said, rtface, film, tmp_path):
    (tmp_path / "text.mp4").write_text("no film\n" * 1000)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = tmp_path / "text.mp4"
        names = {
            "FILM": film,
            "TEXT": text,
            "OTHER": text,
            "DIR": tmp_path,
            "PORT": free_port(),
            "TAKEN": taken.getsockname()[1],
        }
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
