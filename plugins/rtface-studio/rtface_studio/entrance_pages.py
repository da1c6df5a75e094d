"""Pages that need no session: the log-in page, and a page about a missing token."""

from __future__ import annotations

import math
from html import escape

from starlette.datastructures import Headers

from rtface_studio.catalogue import catalogue

_FRAME = """<!doctype html><html lang="{language}"><head><meta charset="utf-8"><title>rtface</title>
<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/page/style.css"></head>
<body><main class="main">{content}</main></body></html>
"""
_LOGIN = """<form method="post" action="/login" class="card stack login"><h1>rtface</h1>{message}
<div class="field"><label for="password">{password}</label>
<input type="password" id="password" name="password" autocomplete="current-password" required autofocus></div>
<button class="button primary">{log_in}</button></form>"""
CLOSED = """<div class="card stack login"><h1>{closed}</h1><p>{closed_hint}</p><p><code>rtface app</code></p>
<p>{closed_else}</p><p><a class="button primary" href="/">{closed_again}</a></p></div>"""


def language_of(headers: Headers) -> str:
    """Returns the language of a page: "de" if the browser prefers German, otherwise "en"."""
    return "de" if headers.get("accept-language", "").strip().lower().startswith("de") else "en"


def login_page(language: str, rejected: bool = False, wait_s: float = 0.0) -> str:
    """Returns the HTML of the log-in page.

    Args:
        language: "en" or "de".
        rejected: whether the last password was wrong.
        wait_s: seconds until the next attempt is allowed.
    """
    message = ""
    if rejected:
        text = _text("wait", language).format(seconds=math.ceil(wait_s)) if wait_s else _text("wrong", language)
        message = f'<p role="alert">{escape(text)}</p>'
    return entrance_page(language, _LOGIN, message=message)


def entrance_page(language: str, content: str, **values: str) -> str:
    """Returns the HTML of a page. Use the content `CLOSED` for addresses without a token."""
    texts = {
        key: escape(_text(key, language))
        for key in ("password", "log_in", "closed", "closed_hint", "closed_else", "closed_again")
    }
    return _FRAME.format(language=language, content=content.format(**texts, **values))


def _text(key: str, language: str) -> str:
    return catalogue()[f"login.{key}"][language]
