"""Reads the texts of the studio and the tray icon. They are in ``page/text``, in English and German."""

from __future__ import annotations

import json
import locale
import os
from functools import cache
from pathlib import Path
from typing import Any

from rtface.errors import Message

PAGE = Path(__file__).with_name("page")
"""Folder of the page's files."""
_LOCALE_NAMES = "LC_ALL", "LC_MESSAGES", "LANG"


@cache
def catalogue() -> dict[str, dict[str, str]]:
    """Returns the texts by key ("films.title") and language ("en", "de")."""
    texts: dict[str, dict[str, str]] = {}
    for file in sorted((PAGE / "text").glob("*.json")):
        texts |= {f"{file.stem}.{key}": value for key, value in json.loads(file.read_text("utf-8")).items()}
    return texts


def translated(message: Message, language: str) -> str:
    """Translates a message to "en" or "de". Returns it unchanged if there is no translation."""
    text = catalogue().get(f"messages.{message.code}", {}).get(language)
    if text is None:
        return message

    def format_value(value: Any) -> Any:  # a value may itself be a message
        return translated(Message.of(value), language) if isinstance(value, dict) else value

    values = {name: format_value(value) for name, value in message.values.items()}
    return text.format_map(values) + "".join(map(format_value, message.values.get("more", ())))


def system_language() -> str:
    """Returns the language of the user's desktop: "de", or otherwise "en"."""
    name = next((os.environ[name] for name in _LOCALE_NAMES if os.environ.get(name)), "") or locale.getlocale()[0] or ""
    return "de" if name.lower().startswith(("de", "german")) else "en"
