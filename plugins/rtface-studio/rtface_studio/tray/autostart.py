"""Starts the icon at login (desktop entry, Windows registry or launch agent)."""

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
    """Returns the path of the file that starts the icon. Returns None on Windows, which uses the registry."""
    if platform.system() == "Windows":
        return None
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "LaunchAgents" / "org.rtface.tray.plist"
    config_home = os.environ.get("XDG_CONFIG_HOME", "")  # relative paths are invalid
    config = Path(config_home) if config_home.startswith("/") else Path.home() / ".config"
    return config / "autostart" / "rtface-tray.desktop"


def starts_at_login() -> bool:
    """Tests whether the icon starts at login."""
    if (path := entry_path()) is not None:
        return path.is_file()
    return _registry_value() is not None


def set_start_at_login(command: list[str] | None) -> None:
    """Sets the command line that starts the icon at login. None removes the entry.

    Raises:
        OutputError: the entry cannot be written. The message contains its path.
    """
    path = entry_path()
    try:
        if path is None:
            _set_registry_value(None if command is None else subprocess.list2cmdline(command))
        elif command is None:
            path.unlink(missing_ok=True)
        else:
            agent = {
                "Label": "org.rtface.tray",
                "ProgramArguments": command,
                "RunAtLoad": True,
                "ProcessType": "Interactive",
            }
            write_atomically(path, plistlib.dumps(agent) if platform.system() == "Darwin" else _desktop_entry(command))
    except OSError as error:
        raise OutputError(
            "{path}: cannot be changed ({why})", code="autostart", path=path or _WINDOWS_RUN, why=error.strerror
        ) from error


def _desktop_entry(command: list[str]) -> bytes:
    """Formats a desktop entry. As specified, escapes twice: inside each quoted argument, and in the whole string."""

    def quote(argument: str) -> str:
        escaped = "".join(f"\\{letter}" if letter in '"`$\\' else letter for letter in argument.replace("%", "%%"))
        return f'"{escaped}"'.replace("\\", "\\\\")

    lines = [
        "[Desktop Entry]",
        "Type=Application",
        "Name=rtface",
        "Comment=Keeps the virtual camera ready",
        f"Exec={' '.join(map(quote, command))}",
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
