"""SRT through the system's library, against SRT's own tool."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rtface.errors import MissingComponent, UsageError
from rtface.live.sources import srt
from rtface.live.sources.srt import SrtConnection

pytestmark = pytest.mark.usefixtures("srt_library")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("srt://127.0.0.1", "needs a port"),
        ("srt://127.0.0.1:9/?mode=other", "mode=other is unknown"),
        ("srt://127.0.0.1:9?passphrase=short", "10 to 79 characters"),
        ("srt://127.0.0.1:9?latency=soon", "latency must be a number"),
    ],
)
def test_what_makes_no_sense_is_said(url: str, why: str):
    with pytest.raises(UsageError, match=why):
        SrtConnection(url, sending=False)


@pytest.mark.parametrize(("latency", "ms"), [("200", 200), ("9999", 9999), ("10000", 10), ("120000", 120)])
def test_a_latency_from_10000_on_is_in_microseconds(latency: str, ms: int, monkeypatch: pytest.MonkeyPatch):
    asked: dict[int, int] = {}
    fake = SimpleNamespace(
        srt_create_socket=lambda: 1,
        srt_connect=lambda *_: 0,
        srt_close=lambda _: 0,
        srt_setsockflag=lambda _, option, value, size: asked.setdefault(option, value._obj.value),
    )
    monkeypatch.setattr(srt, "library", lambda: fake)
    SrtConnection(f"srt://127.0.0.1:9000?latency={latency}", sending=True).close()
    assert ms in asked.values()


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(srt, "LIBRARY_NAMES", ("libnothing-of-this-name.so",))
    with pytest.raises(MissingComponent, match="srt:// needs SRT's library: "):
        srt.library.__wrapped__()  # a library that is started twice waits for ever where a process ends
