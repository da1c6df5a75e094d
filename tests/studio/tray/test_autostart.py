"""Starting with the computer: what each system is given."""

import configparser
import platform
import plistlib
import subprocess

import pytest

from rtface.errors import OutputError
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
