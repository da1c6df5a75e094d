"""Starting with the computer: what each system is given."""

import configparser
import contextlib
import os
import platform
import plistlib
import subprocess
import sys
from types import SimpleNamespace

import pytest

from rtface.errors import OutputError
from rtface_studio import access, queue
from rtface_studio.tray.autostart import entry_path, set_start_at_login, starts_at_login

WORDS = ["/opt/my python/bin/python", "-m", "rtface", "tray", "camera:0", "vcam:", "--", '--stage=text:text="50 % $x"']


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path


def test_linux_gets_a_desktop_entry(home, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert not starts_at_login()
    set_start_at_login(WORDS)
    path = home / ".config" / "autostart" / "rtface-tray.desktop"
    entry = configparser.ConfigParser(interpolation=None)
    entry.optionxform = str
    entry.read_string(path.read_text())
    line = entry["Desktop Entry"]["Exec"].replace("\\\\", "\\")  # a desktop undoes strings first, then arguments
    parted = subprocess.run(["sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True).stdout
    assert parted.replace("%%", "%").splitlines() == WORDS
    assert starts_at_login()
    set_start_at_login(None)
    assert not starts_at_login() and not path.exists()
    set_start_at_login(None)


def test_macos_gets_a_launch_agent(home, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    set_start_at_login(WORDS)
    agent = plistlib.loads((home / "Library" / "LaunchAgents" / "org.rtface.tray.plist").read_bytes())
    assert agent["ProgramArguments"] == WORDS and agent["RunAtLoad"]


def test_a_folder_that_cannot_be_written_is_named(home, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    (home / ".config").write_text("a file")
    with pytest.raises(OutputError, match=str(entry_path())):
        set_start_at_login(WORDS)


def test_the_registry_starts_the_icon(monkeypatch):
    values = {}
    registry = SimpleNamespace(HKEY_CURRENT_USER=1, REG_SZ=1, DeleteValue=lambda key, name: values.pop(name))
    registry.OpenKey = registry.CreateKey = lambda key, path: contextlib.nullcontext()
    registry.QueryValueEx = lambda key, name: [values[name] if values else os.stat("/nonexistent")]  # noqa: PTH116
    registry.SetValueEx = lambda key, name, zero, kind, value: values.update({name: value})
    monkeypatch.setitem(sys.modules, "winreg", registry)
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    set_start_at_login([r"C:\Program Files\Python\pythonw.exe", "-m", "rtface", "tray", "camera:HD Webcam"])
    assert starts_at_login()
    assert [*values.values()] == ['"C:\\Program Files\\Python\\pythonw.exe" -m rtface tray "camera:HD Webcam"']
    set_start_at_login(None)
    assert not starts_at_login()


@pytest.mark.skipif(os.name == "nt", reason="pretends to be Windows elsewhere")
def test_windows_has_no_load_no_modes_and_detached_processes(monkeypatch, tmp_path):
    (path := tmp_path / "token").write_text(token := access.new_token())
    path.chmod(0o644)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "getloadavg", None)
    assert queue.slowed() == 1.5 and access.kept_token(path) == token
    monkeypatch.setattr(sys, "platform", "darwin")
    assert access.kept_token(path) != token
    monkeypatch.setattr(os, "name", "nt")
    monkeypatch.setattr(queue, "Queue", lambda: SimpleNamespace(store=SimpleNamespace(held=lambda what: False)))
    monkeypatch.setattr(queue.subprocess, "Popen", lambda words, **more: more["creationflags"])
    assert queue.ensure_runner(studio := SimpleNamespace(runners=[])) and studio.runners == [0x208]
