"""Keys on a real terminal: what they change, and that the terminal is given back whatever happens."""

from __future__ import annotations

import io
import sys
import threading
import types

import pytest

from rtface.live.control.keyboard import HELP, KeyBindings, read_keys, read_windows
from rtface.live.controls import LiveControls


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        (" ", {"enabled": False}),
        ("  ", {}),
        ("-", {"strength": 0.4}),
        ("_-", {"strength": 0.3}),
        ("+=", {"strength": 0.7}),
        ("+++++++++", {"strength": 1.0}),
        ("-----------", {"strength": 0.0}),
        ("LLl", {"light": 0.1}),
        ("lll", {"light": 0.0}),
        ("xyz\x1b[A\x1b[5~\x1b[1;5C\r\n\x03é", {}),
    ],
)
def test_each_key_does_what_it_says(typed, values):
    controls = LiveControls(strength=0.5)
    KeyBindings(controls, str).press(typed)
    assert controls.values() == LiveControls(strength=0.5).values() | values
    assert not controls.stop.is_set()


def test_help_and_end():
    said = []
    controls = LiveControls()
    KeyBindings(controls, said.append).press("?q")
    assert said == [HELP]
    assert controls.stop.is_set()
    assert len(HELP) < 80


def test_without_a_terminal_nothing_is_read_and_no_thread_runs():
    before = threading.active_count()
    stream = io.StringIO("q")
    closed = io.StringIO()
    closed.close()
    for other in (stream, closed):
        with read_keys(controls := LiveControls(), str, other):
            assert threading.active_count() == before
        assert not controls.stop.is_set()
    assert stream.read() == "q"


def test_windows_reads_keys(monkeypatch):
    typed = list("\xe0H\xe0K\x00P+ q")[::-1]
    console = types.SimpleNamespace(kbhit=lambda: bool(typed), getwch=lambda: typed.pop())
    monkeypatch.setitem(sys.modules, "msvcrt", console)
    controls = LiveControls(strength=0.5)
    read_windows(KeyBindings(controls, str))
    assert (controls.enabled, controls.strength) == (False, 0.6)
