"""The icon on a bus of its own, as desktops on Linux use it."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("dbus_fast")

from rtface.errors import MissingComponent, UsageError
from rtface_studio.tray.status_notifier import NAME, StatusNotifier
from rtface_studio.tray.view import MenuItem, TrayView, draw_icon
from tests.studio.tray.desktop import DBUS, desktop

pytestmark = pytest.mark.skipif(not DBUS, reason="RTFACE_TEST_DBUS does not name dbus-daemon")


@pytest.fixture
def session(monkeypatch):
    with desktop() as made:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", made.address)
        yield made


@pytest.fixture
def shown(session):
    """An icon in a tray, with what it said, and the entries that were chosen."""
    chosen, said, stop = [], [], threading.Event()
    icon = StatusNotifier(view(chosen), said.append)
    thread = threading.Thread(target=icon.run, args=(stop,))
    thread.start()
    yield session, icon, chosen, said
    stop.set()
    thread.join(5.0)
    assert not thread.is_alive()


def view(chosen, state="working", title="faces are enhanced", ticked=True):
    return TrayView(
        state,
        title,
        (
            MenuItem("Enhance faces", lambda: chosen.append("enhance"), checked=ticked),
            MenuItem("Quit_now", lambda: chosen.append("quit")),
        ),
    )


def test_icon_menu_and_actions_reach_the_desktop(shown):
    session, icon, chosen, said = shown
    session.until(lambda: said)  # there is no tray yet
    assert "GNOME needs the extension AppIndicator" in said[0]
    session.start_tray()
    session.until(lambda: session.icons == [NAME])
    assert session.property("Status") == "Active" and session.property("Menu") == "/MenuBar"
    width, height, pixels = session.property("IconPixmap")[1]
    image = draw_icon("working", 48)
    assert (width, height) == (48, 48)
    assert pixels[4 * (24 * 48 + 10) :][:4] == bytes(image[24, 10, [3, 0, 1, 2]])  # ARGB
    assert session.property("ToolTip")[3] == "faces are enhanced"
    assert session.menu() == {
        1: ("faces are enhanced", None),
        2: ("", None),
        3: ("Enhance faces", True),
        4: ("Quit__now", None),
    }
    session.choose("Quit__now")
    session.ask("/StatusNotifierItem", "org.kde.StatusNotifierItem", "Activate", "ii", 0, 0)
    session.until(lambda: sorted(chosen) == ["enhance", "quit"])
    icon.show(view(chosen, "failed", "no picture", ticked=False))
    session.until(lambda: {"NewIcon", "NewToolTip", "LayoutUpdated"} <= set(session.signals))
    assert session.menu()[1] == ("no picture", None) and session.menu()[3] == ("Enhance faces", False)
    assert session.ask("/MenuBar", "com.canonical.dbusmenu", "GetGroupProperties", "aias", [4], [])[0][0][0] == 4


def test_a_session_has_one_icon_only(shown):
    session, _, chosen, said = shown
    session.until(lambda: said)
    with pytest.raises(UsageError, match="already running in this session"):
        StatusNotifier(view(chosen), said.append).run(threading.Event())


def test_without_a_desktop_it_says_so(monkeypatch):
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere/bus")
    with pytest.raises(MissingComponent, match="there is no desktop session"):
        StatusNotifier(view([]), print).run(threading.Event())


def test_the_command_shows_what_is_missing_and_quits(session, tmp_path):
    session.start_tray()
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "RTFACE_DATA": str(tmp_path / "data")}
    with subprocess.Popen(
        [sys.executable, "-m", "rtface", "tray", "camera:none-of-this-name"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        session.until(lambda: session.icons or process.poll() is not None)
        session.until(lambda: session.menu()[1][0].startswith("no picture: "))
        session.choose("Start at login")
        session.until(lambda: (tmp_path / "autostart" / "rtface-tray.desktop").is_file())
        session.until(lambda: ("Start at login", True) in session.menu().values())
        before = cpu_seconds(process.pid)
        time.sleep(1.0)
        assert cpu_seconds(process.pid) - before <= 0.02
        session.choose("Quit")
        assert process.wait(10.0) == 0
        assert "Traceback" not in process.stderr.read()


def test_a_signal_ends_the_command(session):
    session.start_tray()
    with subprocess.Popen([sys.executable, "-m", "rtface", "tray"], stderr=subprocess.PIPE, text=True) as process:
        session.until(lambda: session.icons or process.poll() is not None)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10.0) == 0
        process.stderr.close()


def cpu_seconds(pid):
    """Processor time of a process so far."""
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - of the kernel
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
