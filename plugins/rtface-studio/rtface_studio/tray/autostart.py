"""Starts the icon at login: desktop entry, Windows registry, or launch agent."""

from __future__ import annotations

import contextlib
import os
import platform
import plistlib
import subprocess
from pathlib import Path
from typing import Any

from rtface.errors import OutputError
from rtface.util.files import write_atomically

_WINDOWS_RUN = r"Software\Microsoft\Windows\CurrentVersion\Run"
_WINDOWS_NAME = "rtface tray"


def entry_path() -> Path | None:
    """Returns the path of the file that starts the icon. None on Windows, where the registry does so."""
    if platform.system() == "Windows":
        return None
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "LaunchAgents" / "org.rtface.tray.plist"
    given = os.environ.get("XDG_CONFIG_HOME", "")  # the specification ignores relative paths
    config = Path(given) if given.startswith("/") else Path.home() / ".config"
    return config / "autostart" / "rtface-tray.desktop"


def starts_at_login() -> bool:
    """Tests whether the icon starts at login."""
    if (path := entry_path()) is not None:
        return path.is_file()
    return _registry_value() is not None


def set_start_at_login(words: list[str] | None) -> None:
    """Sets the command line that starts the icon at login. None removes it.

    Raises:
        OutputError: the entry cannot be written; the message names its place.
    """
    path = entry_path()
    try:
        if path is None:
            _set_registry_value(None if words is None else subprocess.list2cmdline(words))
        elif words is None:
            path.unlink(missing_ok=True)
        else:
            agent = {
                "Label": "org.rtface.tray",
                "ProgramArguments": words,
                "RunAtLoad": True,
                "ProcessType": "Interactive",
            }
            write_atomically(path, plistlib.dumps(agent) if platform.system() == "Darwin" else _desktop_entry(words))
    except OSError as error:
        raise OutputError(
            "{path}: cannot be changed ({why})", code="autostart", path=path or _WINDOWS_RUN, why=error.strerror
        ) from error


def _desktop_entry(words: list[str]) -> bytes:
    """Formats a desktop entry. Its specification requires two escapes: of the quoted argument, and of the string."""

    def quoted(word: str) -> str:
        inner = "".join(f"\\{letter}" if letter in '"`$\\' else letter for letter in word.replace("%", "%%"))
        return f'"{inner}"'.replace("\\", "\\\\")

    lines = [
        "[Desktop Entry]",
        "Type=Application",
        "Name=rtface",
        "Comment=Keeps the virtual camera ready",
        f"Exec={' '.join(map(quoted, words))}",
        "Terminal=false",
        "X-GNOME-Autostart-enabled=true",
    ]
    return ("\n".join(lines) + "\n").encode()


def _registry_value() -> str | None:
    winreg = _winreg()
    with contextlib.suppress(OSError), winreg.OpenKey(winreg.HKEY_CURRENT_USER, _WINDOWS_RUN) as key:
        return str(winreg.QueryValueEx(key, _WINDOWS_NAME)[0])
    return None


def _set_registry_value(line: str | None) -> None:
    winreg = _winreg()
    with winreg.CreateKey(winreg.HKEY_CURRENT_USER, _WINDOWS_RUN) as key:
        if line is not None:
            winreg.SetValueEx(key, _WINDOWS_NAME, 0, winreg.REG_SZ, line)
            return
        with contextlib.suppress(FileNotFoundError):
            winreg.DeleteValue(key, _WINDOWS_NAME)


def _winreg() -> Any:
    import winreg

    return winreg
