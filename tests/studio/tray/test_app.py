"""What the icon shows and what its menu does; the camera is stood in for."""

import threading
import urllib.request

import pytest

from rtface.errors import Interrupted, Message
from rtface_studio.catalogue import system_language
from rtface_studio.tray import app as tray_app
from rtface_studio.tray.app import TrayApp


class Camera:
    state, error, enabled = "running", Message(), True

    def toggle(self):
        self.enabled = not self.enabled

    def close(self):
        pass


class Icon:
    def __init__(self):
        self.views = []

    def show(self, view):
        self.views.append(view)


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("RTFACE_DATA", str(tmp_path / "data"))
    said = []
    camera = Camera()
    app = TrayApp(camera, ["rtface", "tray"], said.append, threading.Event())
    app.icon = Icon()
    yield app, camera, said
    app.close()


def choose(app, label):
    next(item for item in app.view().items if item.label == label).action()


@pytest.mark.parametrize(
    ("state", "enabled", "shown"),
    [
        ("running", True, ("working", "faces are enhanced")),
        ("running", False, ("off", "faces are not enhanced")),
        ("starting", True, ("working", "the camera is starting")),
        ("asleep", False, ("asleep", "the camera is off, because no program reads the virtual camera")),
        ("failed", True, ("failed", "no picture: camera 0 is not there")),
    ],
)
def test_the_icon_tells_the_state(made, state, enabled, shown):
    app, camera, _ = made
    camera.state, camera.enabled = state, enabled
    camera.error = Message("camera 0 is not there" if state == "failed" else "")
    view = app.view()
    assert (view.state, view.title) == shown
    assert [item.label for item in view.items if item.checked] == ["Enhance faces"] * enabled


def test_the_studio_opens_once_and_ends_with_the_icon(made, monkeypatch):
    app, _, said = made
    opened = []
    monkeypatch.setattr(tray_app, "open_in_browser", lambda address: opened.append(address) or True)
    choose(app, "Open the studio")
    choose(app, "Open the studio")
    assert len(opened) == 2 and opened[0] == opened[1]
    page = urllib.request.Request(
        opened[0].partition("/?")[0] + "/", headers={"Authorization": f"Bearer {opened[0].partition('token=')[2]}"}
    )
    assert urllib.request.urlopen(page, timeout=5).status == 200
    app.close()
    with pytest.raises(OSError):
        urllib.request.urlopen(page, timeout=5)
    assert not said


def test_a_menu_entry_that_fails_is_said(made, monkeypatch, tmp_path):
    app, _, said = made
    (tmp_path / "autostart").write_text("a file")
    choose(app, "Start at login")
    assert "autostart" in app.icon.views[-1].title and "cannot be changed" in said[0]
    (tmp_path / "autostart").unlink()
    choose(app, "Start at login")
    assert app.icon.views[-1].title == "faces are enhanced" and app.view().items[2].checked


@pytest.mark.parametrize(
    ("variables", "language"),
    [
        ({"LANG": "de_DE.UTF-8"}, "de"),
        ({"LANG": "fr_FR.UTF-8"}, "en"),
        ({"LANG": "de_AT", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LC_MESSAGES": "de_CH.UTF-8", "LANG": "C"}, "de"),
    ],
)
def test_the_language_is_the_desktop_s(monkeypatch, variables, language):
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert system_language() == language


def test_the_menu_is_in_german_where_asked_for(made):
    _, camera, said = made
    app = TrayApp(camera, [], said.append, threading.Event(), "de")
    camera.state, camera.error = "failed", Message("{camera}")
    assert app.view().title == "kein Bild: {camera}"
    camera.error = Message("{name} is not there; look", code="camera_gone", name="camera {0}")
    assert app.view().title == "kein Bild: camera {0} ist nicht da; eine andere wählen"
    camera.error = Interrupted().message + "; in part; " + Message("it is", code="source_ended")
    assert app.view().title == "kein Bild: unterbrochen; in part; die Quelle hat beendet"
    assert [item.label for item in app.view().items][-1] == "Beenden"
