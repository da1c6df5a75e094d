"""The settings of this computer, which its administrator writes and no run overrides (docs/trust.md)."""

from __future__ import annotations

import sys
from pathlib import Path

from rtface.errors import UsageError
from rtface.util.toml_dataclass import parse_toml


def site_path() -> Path | None:
    """The place of ``policy.toml``; None where the system does not say. No environment variable, which every user may
    set, moves it."""
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


def site_table() -> dict[str, object]:
    """The keys and values of that file, unchecked; none where there is no such file.

    Raises:
        UsageError: it cannot be read, or is no TOML.
    """
    path = site_path()
    try:
        return {} if path is None else parse_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and path is not None and not path.is_symlink():
            return {}
        raise UsageError(
            "the policy {path} cannot be read ({why}), and nothing runs without it; ask the administrator",
            code="policy_unreadable",
            path=path,
            why=getattr(error, "strerror", None) or error,
        ) from error
