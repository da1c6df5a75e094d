"""The administrator's policy: what rtface may do on this computer (docs/trust.md lists the keys).

It is ``policy.toml`` in the configuration folder of the whole computer, which no environment variable moves.
``RTFACE_POLICY`` names a second one. Each of them has to allow a run, so the second one can only add to the first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from rtface.config.gone import gone
from rtface.errors import UsageError
from rtface.util.paths import expanded
from rtface.util.spelling import hint
from rtface.util.text import brief
from rtface.util.toml_dataclass import parse_toml

VARIABLE = "RTFACE_POLICY"
KEYS = ("commercial-use", "require-label", "require-credentials", "require-consent", "forbid")


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy file.

    Attributes:
        path: of the file.
        commercial_use: engines and stages whose licence forbids commercial use are refused.
        require_label: "" for none, else the stage that has to be the last one, as ``--stage`` takes it; "label" is any
            label of the usual look.
        require_credentials: outputs have to be signed.
        require_consent: only persons whose consent was noted in words are learnt and used.
        forbid: names of engines, stages and options, and words for kinds of them.
        given: values as the file has them, by key.
    """

    path: Path
    commercial_use: bool = False
    require_label: str = ""
    require_credentials: bool = False
    require_consent: bool = False
    forbid: tuple[str, ...] = ()
    given: dict[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def read(cls, path: Path) -> Policy:
        """Reads a policy.

        Raises:
            UsageError: it cannot be read, is no TOML, or has an unknown key or a value that cannot be used.
        """
        try:
            table = parse_toml(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError(
                "the policy {path} cannot be read ({why}), and nothing runs without it; ask the administrator",
                code="policy_unreadable",
                path=path,
                why=error.strerror,
            ) from error
        except ValueError as error:
            raise UsageError(
                "the policy {path} is not valid TOML ({why}), and nothing runs until it is mended; ask the "
                "administrator",
                code="policy_toml",
                path=path,
                why=error,
            ) from error
        for key in table:
            if key not in KEYS:
                raise gone(key, f"the policy {path}: {key}") or UsageError(
                    "the policy {path}: {key} is not a key{hint}; it may have {keys}",
                    code="policy_key",
                    path=path,
                    key=brief(key),
                    hint=hint(key, KEYS),
                    keys=", ".join(KEYS),
                )
        label = table.get("require-label", False)
        if label is not True and label is not False and not (isinstance(label, str) and _is_label(label)):
            raise _wrong(path, "require-label", 'true, false or a label as in "label:preset=eu-modified"', label)
        return cls(
            path,
            _truth(path, table, "commercial-use"),
            "label" if label is True else label or "",
            _truth(path, table, "require-credentials"),
            _truth(path, table, "require-consent"),
            _words(path, table.get("forbid", [])),
            table,
        )

    def forbids(self, *names: str) -> str | None:
        """The first word of ``forbid`` that is one of `names`; None where none is."""
        return next((word for word in self.forbid if word in names), None)

    def check_engine(self, name: str, *, shipped: bool, vivid: bool) -> None:
        """Raises UsageError for an engine that ``forbid`` names.

        Args:
            name: of the engine.
            shipped: whether it comes with rtface.
            vivid: whether it is one that makes up detail.
        """
        word = self.forbids(name, f"engine:{name}", *() if shipped else ("added-engines",), *("vivid",) * vivid)
        if word is not None:
            raise UsageError(
                "the policy {path} forbids engine {name} (forbid: {word}); choose another by {--engine}, without "
                "{--look:vivid} where that chose it",
                code="policy_engine",
                path=self.path,
                name=name,
                word=word,
            )


def policies(environ: Mapping[str, str] = os.environ) -> list[Policy]:
    """The policies in force: that of this computer, where there is one, and that of ``RTFACE_POLICY``.

    Raises:
        UsageError: as `Policy.read`; the file that ``RTFACE_POLICY`` names is not there.
    """
    found = [Policy.read(path)] if (path := site_path()) is not None and _exists(path) else []
    if named := environ.get(VARIABLE, "").strip():
        found.append(Policy.read(expanded(named, VARIABLE)))
    return found


def site_path() -> Path | None:
    """Where the policy of this computer lies; None where the system does not say. Environment variables, which every
    user may set, do not move it."""
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


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # reading says why it cannot be read
    return True


def _is_label(text: str) -> bool:
    name, colon, rest = text.partition(":")
    return name == "label" and (not colon or "=" in rest)


def _wrong(path: Path, key: str, wanted: str, value: object) -> UsageError:
    return UsageError(
        "the policy {path}: {key} must be {wanted}, not {value}",
        code="policy_value",
        path=path,
        key=key,
        wanted=wanted,
        value=brief(value),
    )


def _truth(path: Path, table: dict[str, Any], key: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise _wrong(path, key, "true or false", value)
    return value


def _words(path: Path, value: object) -> tuple[str, ...]:
    words = cast(list[object], value) if isinstance(value, list) else None
    if words is None or not all(isinstance(word, str) and word.strip() for word in words):
        raise _wrong(path, "forbid", 'a list of names, as in ["vivid", "synthetic"]', value)
    return tuple(str(word).strip().removeprefix("--") for word in words)
