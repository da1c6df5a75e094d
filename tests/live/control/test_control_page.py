"""docs/control.md says what the endpoint does, and its script for OBS works."""

from __future__ import annotations

import queue
import re
import sys
import types
from pathlib import Path

import pytest

from rtface.live.control.control_routes import control_routes
from rtface.live.control.http_server import LocalHttpServer
from rtface.live.control.keyboard import HELP
from rtface.live.control.status_text import metrics
from rtface.live.controls import LiveControls
from rtface.live.protocols import EndpointHealth
from tests.live.live_fakes import live_status

PAGE = (Path(__file__).resolve().parents[3] / "docs/control.md").read_text(encoding="utf-8")


class End:
    described, wanted = "", True
    health = EndpointHealth("live", "", 0.0, bytes=1, causes={"network": 1})


@pytest.fixture
def status():
    return live_status(
        ("camera:0", End()),
        [("vcam:", End())],
        sound=("sound 0", End()),
        controls=LiveControls(strength=0.5),
        delay=0.06,
    )


def test_every_path_is_on_the_page_and_the_other_way_round(status):
    paths = {route.path for route in control_routes(status, None, None)} - {"/"}
    assert set(re.findall(r"(?:GET|POST) (/[a-z._]+)", PAGE)) == paths
    for path in paths:
        assert re.search(rf"[` ]{path}[?`]", PAGE), path


def test_every_key_of_the_status_and_every_metric_is_explained(status):
    table = PAGE[PAGE.index("### What /status says") : PAGE.index("### Access")]
    written = set(re.findall(r"`([a-z_0-9]+)`", table))
    snapshot = status.snapshot()
    assert set(snapshot) | set(snapshot["source"]) | set(snapshot["dropped"]) | set(snapshot["latency_ms"]) <= written
    status.wrote(0.02, (1,))
    names = set(re.findall(r"^rtface_\w+", metrics(status), re.MULTILINE))
    shown = set(re.findall(r"`(rtface_[a-z_]+)", PAGE[PAGE.index("## Prometheus") :]))
    assert shown <= names
    others = {name.replace("_sound_", "_source_").replace("_sink_", "_source_") for name in names}
    assert others - shown <= {"rtface_source_drops_total"}  # which no source has


def test_every_key_is_on_the_page():
    for key in re.findall(r"(?<= )(space|\?|[+\-qlL])(?= )", HELP):
        assert f"| {key} |" in PAGE or f"`{key}`" in PAGE, key


def test_the_script_for_obs_works(status, monkeypatch):
    server = LocalHttpServer(control_routes(status, None, None), port=0)
    pressed, kept, released = {}, {}, []
    offsets, changes = queue.Queue(), queue.Queue()
    change = status.controls.set
    monkeypatch.setattr(status.controls, "set", lambda name, value: (change(name, value), changes.put(name)))

    def register(name, title, callback):
        pressed[name] = callback
        return len(pressed)

    obs = types.SimpleNamespace(
        obs_hotkey_register_frontend=register,
        obs_hotkey_load=lambda hotkey, saved: None,
        obs_hotkey_save=lambda hotkey: [hotkey],
        obs_data_get_array=lambda settings, name: settings.get(name),
        obs_data_set_array=lambda settings, name, saved: settings.update({name: saved}),
        obs_data_array_release=released.append,
        obs_get_source_by_name=lambda name: name,
        obs_source_set_sync_offset=lambda source, offset: offsets.put((source, offset)),
        obs_source_release=lambda source: None,
    )
    monkeypatch.setitem(sys.modules, "obspython", obs)
    script = re.search(r"```python\n(.*?)```", PAGE, re.S)[1].replace("http://127.0.0.1:8177", server.address)
    names = {}
    exec(compile(script, "rtface_hotkeys.py", "exec"), names)
    names["script_load"](kept)
    for name in pressed:
        pressed[name](True)
        pressed[name](False)
    assert sorted(changes.get(timeout=10) for _ in range(3)) == ["enabled", "strength", "strength"]
    assert offsets.get(timeout=10) == ("Mic/Aux", 60_000_000)
    assert status.controls.values() == {
        "enabled": False,
        "always": False,
        "strength": 0.5,
        "look": "clear",
        "light": 0.0,
        "cpu_budget": 1.0,
    }
    pressed["rtface_more"](True)
    assert changes.get(timeout=10) == "strength" and status.controls.strength == 0.6
    names["script_save"](kept)
    assert kept == {name: [n] for n, name in enumerate(pressed, 1)}
    server.close()
