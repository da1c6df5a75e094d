"""Reads this computer's policy: its administrator's settings, which runs cannot override (docs/trust.md)."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from rtface.errors import UsageError


def site_path() -> Path | None:
    """Returns the path of ``policy.toml``; None if the system has none. No environment variable changes it, because
    every user could set one."""
    if sys.platform == "win32":
        import winreg

        folders = r"SOFTWARE\Microsoft\Windows\CurrentVersion\Explorer\Shell Folders"
        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, folders) as key:
                return Path(winreg.QueryValueEx(key, "Common AppData")[0]) / "rtface" / "policy.toml"
        except OSError:
            return None
    folder = "/Library/Application Support" if sys.platform == "darwin" else "/etc/xdg"
    return Path(folder) / "rtface" / "policy.toml"


def policy_table() -> dict[str, object]:
    """Returns the unchecked keys and values of the policy. The result is empty if there is no file.

    Raises:
        UsageError: the file cannot be read, or is not TOML.
    """
    path = site_path()
    try:
        return {} if path is None else tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and path is not None and not path.is_symlink():
            return {}
        raise UsageError(
            "the policy {path} cannot be read ({why}), and rtface does not run without it; ask the administrator",
            code="policy_unreadable",
            path=path,
            why=getattr(error, "strerror", None) or error,
        ) from error
